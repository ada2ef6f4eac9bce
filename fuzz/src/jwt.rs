//! Tokens: nobody without the key gets in, whatever the token says of itself.

use std::sync::Arc;

use grid_rpc::auth::Authenticator as _;
use grid_rpc::auth::jwks::Keys;
use grid_rpc::auth::jwt::JwtAuthenticator;
use jsonwebtoken::{Algorithm, DecodingKey};

pub(crate) fn run(data: &[u8]) {
    let Ok(value) = http::HeaderValue::from_bytes(&[b"Bearer ", data].concat()) else { return };
    let mut request = http::Request::new(());
    request.headers_mut().insert("authorization", value);
    let (parts, ()) = request.into_parts();
    let keys = Keys::Fixed(Arc::new(DecodingKey::from_secret(b"what no input guesses: 3f9c1e7a55d04b21")));
    let jwt = JwtAuthenticator::new(keys, Algorithm::HS256, &[]);
    assert!(crate::block_on(jwt.authenticate(&parts)).is_err(), "taken for somebody, or for nobody");
}
