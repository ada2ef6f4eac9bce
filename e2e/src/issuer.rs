//! An issuer of tokens: keys that it publishes on this machine, where a cluster's servers find them.

use std::sync::Arc;

use anyhow::Result;
use axum::Router;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// Whom its tokens are for.
pub(crate) const AUDIENCE: &str = "builds";

/// A key pair with its name in key sets.
pub(crate) struct SigningKey {
    id: &'static str,
    pair: rcgen::KeyPair,
}

impl SigningKey {
    /// A new pair.
    ///
    /// # Errors
    /// Where there is no randomness.
    pub(crate) fn new(id: &'static str) -> Result<Self> {
        Ok(Self { id, pair: rcgen::KeyPair::generate()? })
    }

    /// The public key as RFC 7517 writes it.
    fn public(&self) -> Value {
        // An uncompressed point: 4, then both coordinates.
        let point = self.pair.public_key_raw();
        let (x, y) = point[1..].split_at(32);
        let text = |bytes| URL_SAFE_NO_PAD.encode(bytes);
        json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.id, "x": text(x), "y": text(y)})
    }

    /// A token for `subject` that holds for many years.
    ///
    /// # Errors
    /// Where it can't be signed.
    pub(crate) fn token(&self, subject: &str) -> Result<String> {
        let header = Header { kid: Some(self.id.to_owned()), ..Header::new(Algorithm::ES256) };
        let claims = json!({"sub": subject, "exp": 4_000_000_000_u64, "aud": AUDIENCE});
        let key = EncodingKey::from_ec_pem(self.pair.serialize_pem().as_bytes())?;
        Ok(encode(&header, &claims, &key)?)
    }
}

/// What publishes keys, until it is dropped.
pub(crate) struct Issuer {
    published: Arc<Mutex<String>>,
    url: String,
    /// Its listener goes with it.
    _runtime: Runtime,
}

impl Issuer {
    /// Publishes `keys` at an address of this machine.
    ///
    /// # Errors
    /// Where the machine has no such address.
    pub(crate) fn start(address: &str, keys: &[&SigningKey]) -> Result<Self> {
        let runtime = Runtime::new()?;
        let published = Arc::new(Mutex::new(key_set(keys)));
        let said = Arc::clone(&published);
        let listener = runtime.block_on(TcpListener::bind((address, 0)))?;
        let url = format!("http://{}/keys", listener.local_addr()?);
        let router = Router::new().route(
            "/keys",
            get(move || {
                let said = said.lock().clone();
                async move { said }
            }),
        );
        runtime.spawn(async move { axum::serve(listener, router).await });
        Ok(Self { published, url, _runtime: runtime })
    }

    /// Where the keys are.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Publishes other keys.
    pub(crate) fn publish(&self, keys: &[&SigningKey]) {
        *self.published.lock() = key_set(keys);
    }
}

fn key_set(keys: &[&SigningKey]) -> String {
    let keys: Vec<_> = keys.iter().map(|key| key.public()).collect();
    json!({ "keys": keys }).to_string()
}
