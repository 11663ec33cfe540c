//! Creates the client for the address of a shared cache.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::http::HttpBuilder;
use object_store::local::LocalFileSystem;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use super::{BadAddress, without_user};

/// How long connecting to a server may take.
const CONNECT: Duration = Duration::from_secs(3);

/// The longest pause between two parts of a response.
const SILENCE: Duration = Duration::from_secs(10);

/// How often a failed request is repeated.
const RETRIES: usize = 2;

/// The variable with the bearer token for an `http` or `https` cache.
const TOKEN: &str = "TOKEN";

/// The client for an address. It does not connect yet.
pub(super) fn open(address: &str, environment: &BTreeMap<String, String>) -> Result<Arc<dyn ObjectStore>, BadAddress> {
    let bad = |why: &str, help| BadAddress { address: without_user(address), why: why.to_owned(), help };
    let wrong = |error: object_store::Error| BadAddress {
        address: without_user(address),
        why: error.to_string(),
        help: "correct --shared-cache, STAGEWRIGHT_SHARED_CACHE, or `cache.shared` of the policy",
    };
    if without_user(address) != address {
        return Err(bad(
            "it contains a user's name or password, which would be shown wherever the address is shown",
            "remove them, and pass credentials in STAGEWRIGHT_SHARED_CACHE_TOKEN, or in AWS_ACCESS_KEY_ID and \
             AWS_SECRET_ACCESS_KEY",
        ));
    }
    let (scheme, rest) = address.split_once("://").unwrap_or(("file", address));
    match scheme {
        "file" if !Path::new(rest).is_absolute() => {
            Err(bad("its path isn't absolute", "use an absolute path, as in /srv/stagewright-cache"))
        }
        "file" => Ok(Arc::new(LocalFileSystem::new_with_prefix(rest).map_err(wrong)?)),
        "s3" => {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() {
                return Err(bad("the bucket is missing", "write it as in s3://bucket/prefix"));
            }
            let known = environment.iter().filter_map(|(name, value)| {
                let name = name.to_ascii_lowercase();
                let key = name.starts_with("aws_").then(|| name.parse::<AmazonS3ConfigKey>().ok())??;
                Some((key, value))
            });
            let builder = known.fold(AmazonS3Builder::new(), |builder, (key, value)| builder.with_config(key, value));
            let builder = builder.with_bucket_name(bucket).with_client_options(options(None)?).with_retry(retry());
            Ok(Arc::new(PrefixStore::new(builder.build().map_err(wrong)?, prefix)))
        }
        "http" | "https" => {
            let client = options(environment.get(TOKEN).map(String::as_str))?;
            let builder = HttpBuilder::new().with_url(address).with_client_options(client).with_retry(retry());
            Ok(Arc::new(builder.build().map_err(wrong)?))
        }
        _ => Err(bad("unknown scheme", "use a folder, s3://BUCKET/PREFIX, or an http or https URL")),
    }
}

fn options(token: Option<&str>) -> Result<ClientOptions, BadAddress> {
    // Fails if a provider has been installed already; all code of this program installs the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // The time limit for a whole transfer depends on its size, so the caller sets it.
    let options = ClientOptions::new().with_connect_timeout(CONNECT).with_read_timeout(SILENCE).with_timeout_disabled();
    // The operator chose the server, and decides whether the connection needs encryption.
    let options = options.with_allow_http(true);
    let Some(token) = token else { return Ok(options) };
    let mut header = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| BadAddress {
        address: "the address".to_owned(),
        why: "its token isn't valid in an HTTP header".to_owned(),
        help: "set STAGEWRIGHT_SHARED_CACHE_TOKEN to the token alone, without line breaks",
    })?;
    header.set_sensitive(true);
    Ok(options.with_default_headers(HeaderMap::from_iter([(AUTHORIZATION, header)])))
}

fn retry() -> RetryConfig {
    let backoff = BackoffConfig { init_backoff: Duration::from_millis(100), ..BackoffConfig::default() };
    RetryConfig { max_retries: RETRIES, retry_timeout: CONNECT, backoff }
}
