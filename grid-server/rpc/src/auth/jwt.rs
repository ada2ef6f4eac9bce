//! Callers told by a JSON Web Token in the `authorization` header (BuildGrid's `method: jwt`).
//!
//! `sub` is the subject, `act` the actor (the subject where there is none), `aud` the workflow. A token that was
//! found good is remembered until it expires, so that its signature is checked once.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use http::request::Parts;
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use moka::sync::Cache;
use serde::Deserialize;

use super::jwks::Keys;
use super::{Authenticator, Identity, bearer};
use crate::RpcError;

/// How many tokens are remembered, and how long at most.
const REMEMBERED: u64 = 10_000;
const REMEMBERED_FOR: Duration = Duration::from_secs(300);
/// The longest token that is looked at, in bytes.
const MAX_TOKEN: usize = 16 << 10;

/// Checks tokens against keys.
#[derive(Debug)]
pub struct JwtAuthenticator {
    keys: Keys,
    validation: Validation,
    audience: Option<String>,
    good: Cache<String, (Identity, u64)>,
}

#[derive(Deserialize)]
struct Claims {
    exp: u64,
    sub: Option<String>,
    #[serde(default)]
    act: Option<Actor>,
    #[serde(default)]
    aud: Option<Audience>,
}

/// `act` is text for BuildGrid, and an object with a `sub` in RFC 8693.
#[derive(Deserialize)]
#[serde(untagged)]
enum Actor {
    Text(String),
    Object { sub: String },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl JwtAuthenticator {
    /// Takes tokens signed with one of `keys` by `algorithm`, for one of `audiences` where any are given.
    #[must_use]
    pub fn new(keys: Keys, algorithm: Algorithm, audiences: &[String]) -> Self {
        let mut validation = Validation::new(algorithm);
        validation.set_required_spec_claims(&["exp"]);
        validation.validate_nbf = true;
        if audiences.is_empty() {
            validation.validate_aud = false;
        } else {
            validation.set_audience(audiences);
        }
        let good = Cache::builder().max_capacity(REMEMBERED).time_to_live(REMEMBERED_FOR).build();
        Self { keys, validation, audience: audiences.first().cloned(), good }
    }

    /// The algorithm of this name in any case, such as `rs256`.
    #[must_use]
    pub fn algorithm(name: &str) -> Option<Algorithm> {
        name.to_ascii_uppercase().parse().ok()
    }

    async fn check(&self, token: &str) -> Result<Identity, RpcError> {
        if let Some((identity, expires)) = self.good.get(token)
            && expires > now()
        {
            return Ok(identity);
        }
        let refuse = |problem: &str| RpcError::Unauthenticated(format!("the token is not valid: {problem}"));
        if token.len() > MAX_TOKEN {
            return Err(refuse("it is too long"));
        }
        let header = decode_header(token).map_err(|_| refuse("it is malformed"))?;
        let mut problem = "it is signed with a key that is not known".to_owned();
        for key in self.keys.candidates(header.kid.as_deref()).await? {
            match decode::<Claims>(token, &key, &self.validation) {
                Ok(found) => {
                    let expires = found.claims.exp;
                    let identity = self.identity(found.claims).ok_or_else(|| refuse("it has no `sub`"))?;
                    self.good.insert(token.to_owned(), (identity.clone(), expires));
                    return Ok(identity);
                }
                Err(error) => problem = error.to_string(),
            }
        }
        Err(refuse(&problem))
    }

    fn identity(&self, claims: Claims) -> Option<Identity> {
        let subject = claims.sub.filter(|subject| !subject.is_empty())?;
        let actor = match claims.act {
            Some(Actor::Text(actor) | Actor::Object { sub: actor }) => actor,
            None => subject.clone(),
        };
        let workflow = match claims.aud {
            Some(Audience::One(audience)) => Some(audience),
            Some(Audience::Many(audiences)) => audiences.into_iter().next(),
            None => self.audience.clone(),
        };
        Some(Identity { subject, actor, workflow: workflow.unwrap_or_default() })
    }
}

// Expiry is a moment of the issuer's wall clock.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

#[async_trait]
impl Authenticator for JwtAuthenticator {
    async fn authenticate(&self, request: &Parts) -> Result<Option<Identity>, RpcError> {
        match bearer(request)? {
            Some(token) => self.check(token).await.map(Some),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jsonwebtoken::{DecodingKey, EncodingKey, Header, encode};
    use serde_json::json;

    use super::*;

    fn authenticator(audiences: &[String]) -> JwtAuthenticator {
        let keys = Keys::Fixed(Arc::new(DecodingKey::from_secret(b"secret")));
        JwtAuthenticator::new(keys, Algorithm::HS256, audiences)
    }

    fn token(claims: &serde_json::Value, secret: &[u8], algorithm: Algorithm) -> String {
        encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret)).unwrap()
    }

    #[tokio::test]
    async fn claims_become_an_identity() {
        let audiences = ["builds".to_owned()];
        let jwt = authenticator(&audiences);
        let claims = json!({"exp": now() + 100, "sub": "alice", "act": "ci", "aud": ["builds", "x"]});
        let good = token(&claims, b"secret", Algorithm::HS256);
        let expected = Identity { subject: "alice".into(), actor: "ci".into(), workflow: "builds".into() };
        assert_eq!(jwt.check(&good).await.unwrap(), expected);
        assert_eq!(jwt.check(&good).await.unwrap(), expected, "remembered");
        let plain =
            token(&json!({"exp": now() + 100, "sub": "bob", "aud": "builds"}), b"secret", Algorithm::HS256);
        assert_eq!(jwt.check(&plain).await.unwrap().actor, "bob");
    }

    #[tokio::test]
    async fn what_is_not_good_is_refused() {
        let jwt = authenticator(&["builds".to_owned()]);
        let good = json!({"exp": now() + 100, "sub": "alice", "aud": "builds"});
        let with = |name: &str, value: serde_json::Value| {
            let mut claims = good.clone();
            claims[name] = value;
            token(&claims, b"secret", Algorithm::HS256)
        };
        let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiJhbGljZSIsImV4cCI6OTk5OTk5OTk5OX0.";
        for bad in [
            token(&good, b"other", Algorithm::HS256),
            token(&good, b"secret", Algorithm::HS384),
            with("exp", json!(now() - 1_000)),
            with("exp", json!(null)),
            with("nbf", json!(now() + 1_000)),
            with("aud", json!("elsewhere")),
            with("sub", json!("")),
            none.to_owned(),
            "garbage".to_owned(),
            String::new(),
            "x".repeat(MAX_TOKEN + 1),
        ] {
            let error = jwt.check(&bad).await.unwrap_err();
            assert!(matches!(error, RpcError::Unauthenticated(_)), "{bad}: {error}");
            assert!(bad.is_empty() || !error.to_string().contains(&bad), "the token stays out of messages");
        }
    }
}
