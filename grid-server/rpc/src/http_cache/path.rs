//! What a path names: `/[INSTANCE/]ac/HASH` or `/[INSTANCE/]cas/HASH`.

use http::Method;

use crate::RpcError;

/// A blob or a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `ac`
    Result,
    /// `cas`
    Blob,
}

/// What a request is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) instance: String,
    pub(super) kind: Kind,
    pub(super) hash: String,
    /// The gRPC method that does the same, by whose rules callers are judged.
    pub(super) rpc: &'static str,
}

impl Path {
    /// Reads a request's path.
    pub(super) fn parse(path: &str, method: &Method) -> Result<Self, RpcError> {
        let form = || {
            RpcError::NotFound("only /[INSTANCE/]ac/HASH and /[INSTANCE/]cas/HASH are here: the path".into())
        };
        let (rest, hash) = path.rsplit_once('/').ok_or_else(form)?;
        let (instance, kind) = rest.rsplit_once('/').ok_or_else(form)?;
        let kind = match kind {
            "ac" => Kind::Result,
            "cas" => Kind::Blob,
            _ => return Err(form()),
        };
        let instance = instance.strip_prefix('/').unwrap_or(instance).to_owned();
        Ok(Self { instance, kind, hash: hash.to_owned(), rpc: rpc(kind, method)? })
    }
}

fn rpc(kind: Kind, method: &Method) -> Result<&'static str, RpcError> {
    match (kind, method.as_str()) {
        (Kind::Result, "GET" | "HEAD") => Ok("/build.bazel.remote.execution.v2.ActionCache/GetActionResult"),
        (Kind::Result, "PUT") => Ok(crate::auth::UPDATE_ACTION_RESULT),
        (Kind::Blob, "GET" | "HEAD") => Ok("/google.bytestream.ByteStream/Read"),
        (Kind::Blob, "PUT") => Ok("/google.bytestream.ByteStream/Write"),
        _ => Err(RpcError::Unimplemented(format!("{method} is not served; use GET, HEAD or PUT"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_stand_before_the_kind_and_the_unnamed_one_adds_nothing() {
        let parse = |path| Path::parse(path, &Method::GET).map(|p| (p.instance, p.kind, p.hash));
        assert_eq!(parse("/cas/abc").unwrap(), (String::new(), Kind::Blob, "abc".into()));
        assert_eq!(parse("/main/x/ac/abc").unwrap(), ("main/x".into(), Kind::Result, "abc".into()));
        for path in ["", "/", "/cas", "/cas/", "/abc", "/CAS/abc", "/main/abc"] {
            let ok = path == "/cas/";
            assert_eq!(parse(path).is_ok(), ok, "{path}: an empty hash is told by its digest");
        }
    }

    #[test]
    fn each_method_is_judged_as_the_call_that_does_the_same() {
        let rpc = |path, method: Method| Path::parse(path, &method).map(|path| path.rpc);
        assert!(rpc("/ac/a", Method::PUT).unwrap().ends_with("/UpdateActionResult"));
        assert!(rpc("/ac/a", Method::HEAD).unwrap().ends_with("/GetActionResult"));
        assert!(rpc("/cas/a", Method::PUT).unwrap().ends_with("/Write"));
        assert!(matches!(rpc("/cas/a", Method::DELETE), Err(RpcError::Unimplemented(_))));
    }
}
