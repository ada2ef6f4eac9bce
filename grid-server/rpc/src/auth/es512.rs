//! ES512: ECDSA on the curve P-521 with SHA-512 (RFC 7518, section 3.4), which the library for tokens doesn't know.
//!
//! Its signatures are checked here. What such a token claims is then read by the library as any other's is.

use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::dangerous::insecure_decode_claims;
use jsonwebtoken::errors::{ErrorKind, Result};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, TokenData, Validation, decode, encode};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// In what the library is shown a token whose signature is good.
pub(super) const SHOWN_AS: Algorithm = Algorithm::HS256;

/// The key in a PEM file, `PUBLIC KEY`.
///
/// # Errors
/// Where there is none.
pub fn key(pem: &[u8]) -> Result<DecodingKey> {
    let found = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|_| ErrorKind::InvalidKeyFormat)?;
    Ok(DecodingKey::from_ec_der(&found))
}

/// A token's header, as far as it matters here.
#[derive(Deserialize)]
pub(super) struct Head {
    alg: String,
    pub(super) kid: Option<String>,
}

impl Head {
    pub(super) fn is_es512(&self) -> bool {
        self.alg == "ES512"
    }
}

/// The header of a token; `None` where it has none that can be read.
pub(super) fn head(token: &str) -> Option<Head> {
    let (head, _) = token.split_once('.')?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(head).ok()?).ok()
}

/// What a token that `key` has signed claims.
///
/// # Errors
/// Where the key has not signed it, or its claims don't hold by `validation`, which is for [`SHOWN_AS`].
pub(super) fn read<T: DeserializeOwned>(
    token: &str,
    key: &DecodingKey,
    validation: &Validation,
) -> Result<TokenData<T>> {
    let (message, signature) = token.rsplit_once('.').ok_or(ErrorKind::InvalidToken)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| ErrorKind::InvalidSignature)?;
    UnparsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, key.try_get_as_bytes()?)
        .verify(message.as_bytes(), &signature)
        .map_err(|_| ErrorKind::InvalidSignature)?;
    // From here on it is as good as one of our own, whose key nobody needs to keep from anybody: it goes nowhere.
    let claims: serde_json::Value = insecure_decode_claims(token)?;
    let own = encode(&Header::new(SHOWN_AS), &claims, &EncodingKey::from_secret(&[]))?;
    decode(own, &DecodingKey::from_secret(&[]), validation)
}
