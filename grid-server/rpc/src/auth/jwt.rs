//! Callers told by a JSON Web Token in the `authorization` header (BuildGrid's `method: jwt`).
//!
//! `sub` is the subject, `act` the actor (the subject where there is none), `aud` the workflow. A token that was
//! found good is remembered until it expires or the keys change, so that its signature is checked once.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use http::request::Parts;
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use moka::sync::Cache;
use serde::Deserialize;

use super::jwks::Keys;
use super::{Authenticator, Identity, bearer, es512};
use crate::RpcError;

/// How many tokens are remembered, and how long at most.
const REMEMBERED: u64 = 10_000;
const REMEMBERED_FOR: Duration = Duration::from_secs(300);
/// The longest token that is looked at, in bytes.
const MAX_TOKEN: usize = 16 << 10;

/// By what tokens are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signature {
    /// What the library for tokens knows.
    By(Algorithm),
    /// ECDSA on P-521, which it doesn't.
    Es512,
}

impl From<Algorithm> for Signature {
    fn from(algorithm: Algorithm) -> Self {
        Self::By(algorithm)
    }
}

/// Checks tokens against keys.
#[derive(Debug)]
pub struct JwtAuthenticator {
    keys: Keys,
    signature: Signature,
    validation: Validation,
    good: Cache<String, Good>,
}

/// A token that was found good.
#[derive(Clone, Debug)]
struct Good {
    identity: Identity,
    expires: u64,
    /// By which generation of the keys.
    generation: u64,
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
    /// Takes tokens signed with one of `keys` as `signature` says, for one of `audiences` where any are given.
    #[must_use]
    pub fn new(keys: Keys, signature: impl Into<Signature>, audiences: &[String]) -> Self {
        let signature = signature.into();
        let mut validation = Validation::new(match signature {
            Signature::By(algorithm) => algorithm,
            Signature::Es512 => es512::SHOWN_AS,
        });
        validation.set_required_spec_claims(&["exp"]);
        validation.validate_nbf = true;
        if audiences.is_empty() {
            validation.validate_aud = false;
        } else {
            // A token for nobody in particular is for none of them.
            validation.set_required_spec_claims(&["exp", "aud"]);
            validation.set_audience(audiences);
        }
        let good = Cache::builder().max_capacity(REMEMBERED).time_to_live(REMEMBERED_FOR).build();
        Self { keys, signature, validation, good }
    }

    async fn check(&self, token: &str) -> Result<Identity, RpcError> {
        let generation = self.keys.generation();
        if let Some(good) = self.good.get(token)
            && good.expires > now()
            && good.generation == generation
        {
            return Ok(good.identity);
        }
        let refuse = |problem: &str| RpcError::Unauthenticated(format!("the token is not valid: {problem}"));
        if token.len() > MAX_TOKEN {
            return Err(refuse("it is too long"));
        }
        let malformed = || refuse("it is malformed");
        let (as_expected, id) = match self.signature {
            Signature::By(algorithm) => {
                let header = decode_header(token).map_err(|_| malformed())?;
                (header.alg == algorithm, header.kid)
            }
            Signature::Es512 => {
                let head = es512::head(token).ok_or_else(malformed)?;
                (head.is_es512(), head.kid)
            }
        };
        if !as_expected {
            return Err(refuse("it is signed by another algorithm"));
        }
        let id = id.as_deref();
        let mut signed = self.signed(token, &self.keys.known(id));
        if signed.is_none() {
            // Its issuer may sign with another key since, under whatever name.
            signed = self.signed(token, &self.keys.looked_for(id).await);
        }
        let Some(claims) = signed else {
            return Err(if self.keys.are_complete() {
                refuse("it is signed with a key that is not known")
            } else {
                RpcError::Unavailable("the keys of an issuer are not known yet".into())
            });
        };
        let claims = claims.map_err(|error| refuse(&error.to_string()))?;
        let expires = claims.exp;
        let identity = Self::identity(claims).ok_or_else(|| refuse("it has no `sub`"))?;
        // Keys that came since may be others: such a token is looked at once more.
        self.good.insert(token.to_owned(), Good { identity: identity.clone(), expires, generation });
        Ok(identity)
    }

    /// What a token says, or what is wrong with that; `None` where none of the keys has signed it.
    fn signed(&self, token: &str, keys: &[DecodingKey]) -> Option<Result<Claims, Error>> {
        let mut read = keys.iter().map(|key| match self.signature {
            Signature::By(_) => decode::<Claims>(token, key, &self.validation),
            Signature::Es512 => es512::read(token, key, &self.validation),
        });
        read.find_map(|read| match read {
            Ok(found) => Some(Ok(found.claims)),
            Err(error) if is_of_claims(&error) => Some(Err(error)),
            Err(_) => None,
        })
    }

    fn identity(claims: Claims) -> Option<Identity> {
        let subject = claims.sub.filter(|subject| !subject.is_empty())?;
        let actor = match claims.act {
            Some(Actor::Text(actor) | Actor::Object { sub: actor }) => actor,
            None => subject.clone(),
        };
        let workflow = match claims.aud {
            Some(Audience::One(audience)) => Some(audience),
            Some(Audience::Many(audiences)) => audiences.into_iter().next(),
            None => None,
        };
        Some(Identity { subject, actor, workflow: workflow.unwrap_or_default() })
    }
}

/// Whether a token is refused for what it says, which is looked at once its signature was found good.
fn is_of_claims(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ExpiredSignature
            | ErrorKind::ImmatureSignature
            | ErrorKind::InvalidAudience
            | ErrorKind::MissingRequiredClaim(_)
            | ErrorKind::InvalidClaimFormat(_)
            | ErrorKind::Json(_)
    )
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

    use jsonwebtoken::{EncodingKey, Header, encode};
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
    async fn a_secret_that_is_replaced_takes_its_tokens_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "first").unwrap();
        let read = |content: &[u8]| Ok(DecodingKey::from_secret(content));
        let keys = Keys::File(Arc::new(super::super::Followed::new(&path, read).unwrap()));
        let jwt = JwtAuthenticator::new(keys, Algorithm::HS256, &[]);
        let claims = json!({"exp": now() + 100, "sub": "alice"});
        let [first, second] =
            [&b"first"[..], b"second"].map(|secret| token(&claims, secret, Algorithm::HS256));
        assert!(jwt.check(&first).await.is_ok() && jwt.check(&second).await.is_err());
        std::fs::write(&path, "second").unwrap();
        let later = SystemTime::now() + Duration::from_secs(5);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
        assert!(jwt.check(&second).await.is_ok());
        assert!(jwt.check(&first).await.is_err(), "it is not remembered beyond its key");
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
            with("aud", json!(null)),
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
