//! [`S3Connection`]: how this process reaches an S3 service: address, credentials, time limits, what errors mean.
//!
//! The S3 storage uses it, and so does the S3 action cache. Requests are made again here while the service is away or
//! asks for less (the client library's own retries are off, so that nothing is retried twice). It refuses to know keys:
//! those are the [`layout`]'s and its users'.

mod fault;
pub mod layout;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    AppName, BehaviorVersion, Builder, Credentials, Region, RequestChecksumCalculation,
    ResponseChecksumValidation, StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use tokio::sync::Semaphore;

pub use self::fault::Fault;
use crate::StoreError;
use crate::wait::until_available;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How many requests with small or no bodies run at once.
const REQUESTS: usize = 256;

/// Answers of the S3 library.
pub type Answer<T, E> = Result<T, SdkError<E>>;

/// Who we are to the service.
#[derive(Clone)]
pub enum S3Credentials {
    /// A pair of keys.
    Keys {
        /// The access key.
        access: String,
        /// The secret key.
        secret: String,
    },
    /// What the environment gives: variables, the profile's files, a web identity's token, the instance's role; each is
    /// renewed as it ages.
    Environment,
}

impl fmt::Debug for S3Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keys { .. } => "Keys",
            Self::Environment => "Environment",
        })
    }
}

/// How long transfers of one direction may take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TimeLimit {
    /// At least this (`*-timeout-min-seconds`).
    pub least: Duration,
    /// Or this for each kilobyte (`*-timeout-seconds-per-kilobyte`), where that is more.
    pub per_kilobyte: Option<Duration>,
}

impl Default for TimeLimit {
    fn default() -> Self {
        Self { least: Duration::from_secs(120), per_kilobyte: None }
    }
}

impl TimeLimit {
    /// For so many bytes.
    #[must_use]
    pub fn of(&self, bytes: u64) -> Duration {
        let kilobytes = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        self.per_kilobyte.map_or(self.least, |time| time.saturating_mul(kilobytes).max(self.least))
    }
}

/// How an [`S3Connection`] is made.
#[derive(Clone, Debug)]
pub struct S3ConnectionOptions {
    /// The service's URL.
    pub endpoint: String,
    /// Who we are.
    pub credentials: S3Credentials,
    /// How long reads may take.
    pub reads: TimeLimit,
    /// How long writes may take.
    pub writes: TimeLimit,
    /// Its place in the configuration, for errors.
    pub name: Arc<str>,
}

/// A way to an S3 service.
#[derive(Debug)]
pub struct S3Connection {
    client: Client,
    requests: Semaphore,
    options: S3ConnectionOptions,
}

impl S3Connection {
    /// Prepares the way; nothing is sent yet, and the service need not be there.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where the endpoint is no URL.
    pub async fn new(options: S3ConnectionOptions) -> Result<Self, StoreError> {
        let refuse = |message: String| StoreError::Refused { backend: Arc::clone(&options.name), message };
        let uri: http::Uri =
            options.endpoint.parse().map_err(|error| refuse(format!("endpoint: {error}")))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            return Err(refuse(format!(
                "endpoint {:?}: expected http(s)://host or http(s)://host:port",
                options.endpoint
            )));
        }
        let mut config = match &options.credentials {
            S3Credentials::Keys { access, secret } => Builder::new()
                .behavior_version(BehaviorVersion::latest())
                .credentials_provider(Credentials::new(access, secret, None, None, "configuration")),
            S3Credentials::Environment => {
                Builder::from(&aws_config::load_defaults(BehaviorVersion::latest()).await)
            }
        };
        config.set_region(Some(region(uri.host().unwrap_or_default())));
        Ok(Self { client: client(config, &options), requests: Semaphore::new(REQUESTS), options })
    }

    /// The library's client, for requests that are made once; all others go through [`S3Connection::call`].
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// Its place in the configuration.
    #[must_use]
    pub const fn name(&self) -> &Arc<str> {
        &self.options.name
    }

    /// How long reading so many bytes may take.
    #[must_use]
    pub fn read_limit(&self, bytes: u64) -> Duration {
        self.options.reads.of(bytes)
    }

    /// How long writing so many bytes may take.
    #[must_use]
    pub fn write_limit(&self, bytes: u64) -> Duration {
        self.options.writes.of(bytes)
    }

    /// Makes a request, and again while the service is away or asks for less, for a minute at most.
    ///
    /// # Errors
    /// What the last answer meant.
    pub async fn call<T, E, F>(&self, limit: Duration, mut request: impl FnMut() -> F) -> Result<T, Fault>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        F: Future<Output = Answer<T, E>>,
    {
        // Only what is to be waited for is an error in there.
        let waited = until_available(|| {
            let request = Box::pin(request());
            async move {
                let Ok(_turn) = self.requests.acquire().await else { return Ok(Err(self.late(limit))) };
                match tokio::time::timeout(limit, request).await {
                    Ok(Ok(answer)) => Ok(Ok(answer)),
                    Ok(Err(error)) => match self.meaning(&error) {
                        Fault::Store(error @ StoreError::Unavailable { .. }) => Err(error),
                        fault => Ok(Err(fault)),
                    },
                    Err(_) => Ok(Err(self.late(limit))),
                }
            }
        });
        waited.await.unwrap_or_else(|error| Err(Fault::Store(error)))
    }

    /// That an answer took longer than it may.
    #[must_use]
    pub fn late(&self, limit: Duration) -> Fault {
        Fault::Store(self.unavailable(format!("no answer within {limit:?}")))
    }

    /// That the service does not do what it should, for now.
    #[must_use]
    pub fn unavailable(&self, message: String) -> StoreError {
        StoreError::Unavailable { backend: Arc::clone(&self.options.name), message, retry_after: None }
    }

    /// What a failed request means.
    #[must_use]
    pub fn meaning<E>(&self, error: &SdkError<E>) -> Fault
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        fault::meaning(&self.options.name, error)
    }

    /// What the failure of one key in a batch means; `None` where the key is gone as it should be.
    #[must_use]
    pub fn key_error(&self, code: Option<&str>, message: Option<&str>) -> Option<StoreError> {
        match fault::of_code(&self.options.name, None, code, message, None) {
            Fault::Absent => None,
            fault => Some(fault.into_store_error(&self.options.name)),
        }
    }

    /// Whether a bucket is there, and ours.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where it is not; the service's trouble.
    pub async fn check_bucket(&self, bucket: &str) -> Result<(), StoreError> {
        let request = || self.client.head_bucket().bucket(bucket).send();
        match self.call(self.read_limit(0), request).await {
            Ok(_) => Ok(()),
            Err(Fault::Absent) => Err(StoreError::Refused {
                backend: Arc::clone(&self.options.name),
                message: format!("bucket {bucket:?} does not exist; create it or correct `bucket`"),
            }),
            Err(fault) => Err(fault.into_store_error(&self.options.name)),
        }
    }
}

fn client(mut config: Builder, options: &S3ConnectionOptions) -> Client {
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).build();
    config.set_app_name(AppName::new("grid-server").ok());
    let config = config
        .endpoint_url(&options.endpoint)
        .force_path_style(true)
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        // A slow reader of ours is no fault of the service.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        // Older services know no checksums in trailers; content is checked against its digest instead.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    Client::from_conf(config.build())
}

/// Amazon's hosts name their region (`s3.eu-west-1.amazonaws.com`); other services take the usual default.
fn region(host: &str) -> Region {
    let named = host
        .strip_suffix(".amazonaws.com")
        .and_then(|host| host.rsplit_once("s3."))
        .map(|(_, region)| region.to_owned());
    let set = || std::env::var("AWS_REGION").or_else(|_| std::env::var("AWS_DEFAULT_REGION")).ok();
    Region::new(named.or_else(set).unwrap_or_else(|| "us-east-1".to_owned()))
}

/// Buckets that were found to be there: an object that is missing from one of those is missing, and not the bucket.
#[derive(Debug, Default)]
pub struct KnownBuckets(parking_lot::Mutex<std::collections::HashSet<String>>);

impl KnownBuckets {
    /// Makes sure that a bucket is there, once.
    ///
    /// # Errors
    /// Those of [`S3Connection::check_bucket`].
    pub async fn check(&self, connection: &S3Connection, bucket: &str) -> Result<(), StoreError> {
        if self.0.lock().contains(bucket) {
            return Ok(());
        }
        connection.check_bucket(bucket).await?;
        self.0.lock().insert(bucket.to_owned());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amazons_hosts_name_their_region() {
        assert_eq!(region("s3.eu-west-1.amazonaws.com").as_ref(), "eu-west-1");
        assert_eq!(region("minio.example").as_ref(), "us-east-1");
    }

    #[test]
    fn a_limit_grows_with_the_size() {
        let limit =
            TimeLimit { least: Duration::from_secs(10), per_kilobyte: Some(Duration::from_millis(100)) };
        assert_eq!(limit.of(0), Duration::from_secs(10));
        assert_eq!(limit.of(1024 * 1024), Duration::from_millis(102_400));
        assert_eq!(TimeLimit::default().of(u64::MAX), Duration::from_secs(120));
    }

    #[test]
    fn keys_are_never_shown() {
        let keys = S3Credentials::Keys { access: "AKIA".into(), secret: "sesame".into() };
        assert_eq!(format!("{keys:?}"), "Keys");
    }
}
