//! The model as an HTTP service, which kube's client talks to.

use std::convert::Infallible;

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use super::faults::Fault;
use super::store::{Key, Model, Refusal};

/// What every pod has logged.
const LOG: &str = "index: 9 bytes in 2 blobs, deleted 5 bytes in 1 blobs\nthe end of a log\n";

impl Model {
    /// A client of the model.
    pub(crate) fn client(&self) -> Client {
        let model = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let model = model.clone();
            async move { Ok::<_, Infallible>(model.serve(request).await) }
        });
        Client::new(service, "default")
    }

    async fn serve(&self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body: Value =
            if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
        let content_type =
            parts.headers.get("content-type").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let query = parts.uri.query().unwrap_or_default();
        let is_event = parts.uri.path().ends_with("/events");
        if parts.method != Method::GET && !is_event {
            self.pass_gate().await;
        }
        let result = self.admit().and_then(|()| {
            let path = Path::parse(parts.uri.path())?;
            self.check_group(&path.group)?;
            match self.next_fault() {
                Some(Fault::Refused(refusal)) => return Err(refusal),
                Some(Fault::AnswerLost) => {
                    self.route(&parts.method, &path, query, &content_type, body)?;
                    return Err(Refusal::new(504, "Timeout", "the answer was lost"));
                }
                Some(Fault::Overtaken) if path.name.is_some() => self.touch(&path.key()),
                Some(Fault::Overtaken) | None => {}
            }
            self.route(&parts.method, &path, query, &content_type, body)
        });
        let (code, body) = match result {
            Ok(Value::String(text)) => (200, text.into_bytes()),
            Ok(value) => (200, serde_json::to_vec(&value).unwrap()),
            Err(refusal) => {
                let Refusal { code, reason, message } = refusal;
                let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                    "message": message, "reason": reason, "code": code});
                (code, serde_json::to_vec(&status).unwrap())
            }
        };
        let status = StatusCode::from_u16(code).unwrap();
        Response::builder()
            .status(status)
            .header("content-type", "application/json")
            .body(Body::from(body))
            .unwrap()
    }

    fn route(
        &self,
        method: &Method,
        path: &Path,
        query: &str,
        content_type: &str,
        body: Value,
    ) -> Result<Value, Refusal> {
        let subresource = path.subresource.as_deref();
        match (method.as_str(), &path.name, subresource) {
            ("GET", None, None) => {
                Ok(Value::String(self.list(&path.group, &path.plural, &path.namespace, &selector(query))))
            }
            ("GET", Some(_), Some("log")) => Ok(Value::String(LOG.into())),
            ("GET", Some(_), None) => self.get(&path.key()),
            ("POST", None, None) => {
                let name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                self.create(Path { name: Some(name), ..path.clone() }.key(), body)
            }
            ("PATCH", Some(_), None) if content_type.contains("apply-patch") => {
                let manager = parameter(query, "fieldManager").unwrap_or_default();
                if parameter(query, "fieldValidation").as_deref() != Some("Strict") {
                    return Err(Refusal::new(
                        400,
                        "BadRequest",
                        "an apply without strict validation drops fields in silence",
                    ));
                }
                self.apply(path.key(), &manager, body)
            }
            ("PATCH", Some(_), None) if content_type.contains("merge-patch") => {
                self.merge_patch(path.key(), &body)
            }
            ("PUT", Some(_), Some("status")) => self.replace_status(path.key(), &body),
            ("DELETE", Some(_), None) => {
                self.remove(&path.key(), &body)?;
                Ok(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}))
            }
            _ => Err(Refusal::new(501, "NotImplemented", format!("{method} {path:?} {content_type}"))),
        }
    }
}

#[derive(Clone, Debug)]
struct Path {
    group: String,
    plural: String,
    namespace: String,
    name: Option<String>,
    subresource: Option<String>,
}

impl Path {
    fn parse(path: &str) -> Result<Self, Refusal> {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, rest) = match parts.as_slice() {
            ["api", "v1", rest @ ..] => ("", rest),
            ["apis", group, _, rest @ ..] => (*group, rest),
            _ => return Err(Refusal::new(404, "NotFound", path)),
        };
        let ["namespaces", namespace, plural, rest @ ..] = rest else {
            return Err(Refusal::new(501, "NotImplemented", path));
        };
        Ok(Self {
            group: group.to_owned(),
            plural: (*plural).to_owned(),
            namespace: (*namespace).to_owned(),
            name: rest.first().map(|s| (*s).to_owned()),
            subresource: rest.get(1).map(|s| (*s).to_owned()),
        })
    }

    fn key(&self) -> Key {
        (
            self.group.clone(),
            self.plural.clone(),
            self.namespace.clone(),
            self.name.clone().unwrap_or_default(),
        )
    }
}

fn parameter(query: &str, name: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key == name).then(|| decode(value))
    })
}

fn selector(query: &str) -> Vec<(String, String)> {
    let text = parameter(query, "labelSelector").unwrap_or_default();
    text.split(',')
        .filter_map(|part| part.split_once('='))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
}

fn decode(text: &str) -> String {
    let mut bytes = vec![];
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let hex: Vec<u8> = rest.by_ref().take(2).collect();
            bytes.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap());
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).unwrap()
}
