//! Tokens signed by keys that an issuer publishes: the issuer comes late, goes away, and changes its keys.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use grid_rpc::RpcError;
use grid_rpc::auth::jwks::{COOL_DOWN, Keys, Published};
use grid_rpc::auth::jwt::{JwtAuthenticator, Signature};
use grid_rpc::auth::{Authenticator as _, Identity, es512};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use parking_lot::Mutex;
use serde_json::{Value, json};

/// What an issuer says: key sets, or nothing while it is away.
#[derive(Clone, Default)]
struct Issuer {
    published: Arc<Mutex<Option<Value>>>,
    asked: Arc<AtomicUsize>,
}

impl Issuer {
    async fn serve(&self) -> String {
        let this = self.clone();
        let answer = move || {
            this.asked.fetch_add(1, Ordering::Relaxed);
            let said = this.published.lock().clone();
            async move { said.map(|set| set.to_string()).ok_or(StatusCode::SERVICE_UNAVAILABLE) }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let router = Router::new().route("/keys", get(answer));
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    fn publish(&self, keys: &[&SigningKey]) {
        let keys: Vec<_> = keys.iter().map(|key| key.public()).collect();
        *self.published.lock() = Some(json!({ "keys": keys }));
    }

    fn go_away(&self) {
        *self.published.lock() = None;
    }
}

struct SigningKey {
    id: &'static str,
    pair: rcgen::KeyPair,
}

impl SigningKey {
    fn new(id: &'static str) -> Self {
        Self { id, pair: rcgen::KeyPair::generate().unwrap() }
    }

    /// The key as RFC 7517 writes it.
    fn public(&self) -> Value {
        // An uncompressed point: 4, then both coordinates.
        let point = self.pair.public_key_raw();
        let (x, y) = point[1..].split_at(32);
        let text = |bytes| URL_SAFE_NO_PAD.encode(bytes);
        json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.id, "x": text(x), "y": text(y)})
    }

    fn token(&self, subject: &str) -> String {
        self.token_naming(subject, Some(self.id))
    }

    /// A token whose header names this key, or none.
    fn token_naming(&self, subject: &str, id: Option<&str>) -> String {
        let header = Header { kid: id.map(str::to_owned), ..Header::new(Algorithm::ES256) };
        let claims = json!({"sub": subject, "exp": 4_000_000_000_u64, "aud": "builds"});
        let key = EncodingKey::from_ec_pem(self.pair.serialize_pem().as_bytes()).unwrap();
        encode(&header, &claims, &key).unwrap()
    }
}

async fn check(jwt: &JwtAuthenticator, token: &str) -> Result<Identity, RpcError> {
    let request = http::Request::builder().header("authorization", format!("Bearer {token}"));
    let (parts, ()) = request.body(()).unwrap().into_parts();
    jwt.authenticate(&parts).await.map(Option::unwrap)
}

/// Lets the time pass after which an unknown key is asked for again.
async fn cool_down() {
    tokio::time::pause();
    tokio::time::advance(COOL_DOWN + Duration::from_secs(1)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn keys_come_late_survive_their_issuer_and_are_replaced() {
    let issuer = Issuer::default();
    let published = Arc::new(Published::new(vec![issuer.serve().await]).unwrap());
    let audiences = ["builds".to_owned()];
    let jwt = JwtAuthenticator::new(Keys::Published(published), Algorithm::ES256, &audiences);
    let (old, new) = (SigningKey::new("old"), SigningKey::new("new"));

    let early = check(&jwt, &old.token("alice")).await;
    assert!(matches!(early, Err(RpcError::Unavailable(_))), "nothing is known yet: {early:?}");
    issuer.publish(&[&old]);
    cool_down().await;
    assert_eq!(check(&jwt, &old.token("alice")).await.unwrap().subject, "alice");

    issuer.go_away();
    cool_down().await;
    assert_eq!(check(&jwt, &old.token("bob")).await.unwrap().subject, "bob", "what was published stands");
    assert!(matches!(check(&jwt, &new.token("bob")).await, Err(RpcError::Unauthenticated(_))));
    assert_eq!(
        check(&jwt, &old.token("carol")).await.unwrap().subject,
        "carol",
        "a failed fetch takes nothing"
    );

    issuer.publish(&[&new]);
    cool_down().await;
    assert_eq!(
        check(&jwt, &new.token("dora")).await.unwrap().subject,
        "dora",
        "a new key is asked for at once"
    );
    for subject in ["eve", "alice"] {
        let withdrawn = check(&jwt, &old.token(subject)).await;
        assert!(matches!(withdrawn, Err(RpcError::Unauthenticated(_))), "{subject}: {withdrawn:?}");
    }
}

#[tokio::test]
async fn tokens_of_unknown_keys_do_not_make_a_storm() {
    let issuer = Issuer::default();
    let known = SigningKey::new("known");
    issuer.publish(&[&known]);
    let published = Arc::new(Published::new(vec![issuer.serve().await]).unwrap());
    let jwt = JwtAuthenticator::new(Keys::Published(published), Algorithm::ES256, &["builds".to_owned()]);
    let stranger = SigningKey::new("stranger");
    for number in 0..50 {
        assert!(check(&jwt, &stranger.token(&format!("s{number}"))).await.is_err());
    }
    assert!(check(&jwt, &known.token("alice")).await.is_ok());
    assert_eq!(issuer.asked.load(Ordering::Relaxed), 1, "one look in {COOL_DOWN:?}");
}

#[tokio::test]
async fn a_token_of_an_issuer_that_never_answered_is_not_refused_for_good() {
    let (here, away) = (Issuer::default(), Issuer::default());
    let (known, unknown) = (SigningKey::new("known"), SigningKey::new("unknown"));
    here.publish(&[&known]);
    let published = Published::new(vec![here.serve().await, away.serve().await]).unwrap();
    let keys = Keys::Published(Arc::new(published));
    let jwt = JwtAuthenticator::new(keys, Algorithm::ES256, &["builds".to_owned()]);
    assert!(check(&jwt, &known.token("alice")).await.is_ok());
    for id in [Some("unknown"), Some("known"), None] {
        let early = check(&jwt, &unknown.token_naming("bob", id)).await;
        assert!(matches!(early, Err(RpcError::Unavailable(_))), "{id:?}: {early:?}");
    }
    away.publish(&[&unknown]);
    cool_down().await;
    assert_eq!(check(&jwt, &unknown.token("bob")).await.unwrap().subject, "bob");
    let stranger = check(&jwt, &SigningKey::new("stranger").token("eve")).await;
    assert!(matches!(stranger, Err(RpcError::Unauthenticated(_))), "all have answered: {stranger:?}");
}

#[tokio::test]
async fn a_new_key_is_asked_for_though_no_token_names_it() {
    for id in [None, Some("key")] {
        let issuer = Issuer::default();
        let (old, new) = (SigningKey::new("key"), SigningKey::new("key"));
        issuer.publish(&[&old]);
        let keys = Keys::Published(Arc::new(Published::new(vec![issuer.serve().await]).unwrap()));
        let jwt = JwtAuthenticator::new(keys, Algorithm::ES256, &["builds".to_owned()]);
        assert!(check(&jwt, &old.token_naming("alice", id)).await.is_ok());
        issuer.publish(&[&new]);
        let token = new.token_naming("bob", id);
        let early = check(&jwt, &token).await;
        assert!(matches!(early, Err(RpcError::Unauthenticated(_))), "asked a moment ago: {early:?}");
        cool_down().await;
        assert_eq!(check(&jwt, &token).await.unwrap().subject, "bob", "{id:?}");
    }
}

/// A key pair on P-521, and what it signs.
struct Es512 {
    pair: EcdsaKeyPair,
}

impl Es512 {
    fn new() -> Self {
        Self { pair: EcdsaKeyPair::generate(&ECDSA_P521_SHA512_FIXED_SIGNING).unwrap() }
    }

    fn public(&self) -> Value {
        let (x, y) = self.pair.public_key().as_ref()[1..].split_at(66);
        let text = |bytes| URL_SAFE_NO_PAD.encode(bytes);
        json!({"kty": "EC", "crv": "P-521", "alg": "ES512", "kid": "wide", "x": text(x), "y": text(y)})
    }

    fn pem(&self) -> String {
        let der: PublicKeyX509Der<'_> = self.pair.public_key().as_der().unwrap();
        let text = base64::engine::general_purpose::STANDARD.encode(der.as_ref());
        format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
    }

    fn token(&self, claims: &Value) -> String {
        let text = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", text(&json!({"alg": "ES512", "kid": "wide"})), text(claims));
        let signature = self.pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

#[tokio::test]
async fn es512_is_checked_as_every_other_algorithm_is() {
    let (signer, stranger) = (Es512::new(), Es512::new());
    let issuer = Issuer::default();
    *issuer.published.lock() = Some(json!({"keys": [signer.public()]}));
    let published = Arc::new(Published::new(vec![issuer.serve().await]).unwrap());
    let in_file = es512::key(signer.pem().as_bytes()).unwrap();
    let audiences = ["builds".to_owned()];
    let claims = json!({"sub": "alice", "exp": 4_000_000_000_u64, "aud": "builds"});
    for keys in [Keys::Published(published), Keys::Fixed(Arc::new(in_file))] {
        let jwt = JwtAuthenticator::new(keys, Signature::Es512, &audiences);
        assert_eq!(check(&jwt, &signer.token(&claims)).await.unwrap().subject, "alice");
        let with = |name: &str, value: Value| {
            let mut claims = claims.clone();
            claims[name] = value;
            claims
        };
        let good = signer.token(&claims);
        let (_, signature) = good.rsplit_once('.').unwrap();
        let other = signer.token(&with("sub", json!("mallory")));
        let (message, _) = other.rsplit_once('.').unwrap();
        let own = encode(&Header::default(), &claims, &EncodingKey::from_secret(&[])).unwrap();
        for bad in [
            stranger.token(&claims),
            signer.token(&with("exp", json!(1_000))),
            signer.token(&with("aud", json!("elsewhere"))),
            signer.token(&with("nbf", json!(4_000_000_000_u64))),
            format!("{message}.{signature}"),
            own,
            SigningKey::new("wide").token("alice"),
        ] {
            let refused = check(&jwt, &bad).await;
            assert!(matches!(refused, Err(RpcError::Unauthenticated(_))), "{bad}: {refused:?}");
        }
    }
}
