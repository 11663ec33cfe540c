//! The stage's `with` table.

use std::collections::BTreeMap;
use std::time::Duration;

use rollout::{Deliverable, Probe, ReleaseConfig, Strategy};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use stagewright_sdk::{DurationText, JsonSchema, Problem, schemars};

/// The site to put into a bucket.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(example = serde_json::json!({
    "bucket": "www.example.org",
    "credential": "s3",
    "site": "${{ stages.build.outputs.artifacts.dist }}",
    "url": "https://www.example.org",
    "cache": [{ "files": "assets/**", "control": "public, max-age=31536000, immutable" }],
}))]
pub(crate) struct Config {
    /// The bucket's name.
    pub(crate) bucket: String,
    /// A folder in the bucket for the site, as in `docs/`. Default: the bucket as a whole.
    #[serde(default)]
    pub(crate) prefix: String,
    /// The name of the credential that signs requests to the bucket. Its only origin is where they go.
    pub(crate) credential: String,
    /// A folder that an earlier stage has published, by digest: `NAME@sha256:…`.
    pub(crate) site: Deliverable,
    /// A folder of the workspace for the files while they are sent.
    #[serde(default = "default_scratch")]
    pub(crate) scratch: String,
    /// Whether the files of the serving release are also at the root, where a website of S3 has them. Without it, what serves
    /// the site has to read the pointer `releases/current.json`.
    #[serde(default = "default_root")]
    pub(crate) root: bool,
    /// `Cache-Control` by path; the first entry that matches counts. Default: `public, max-age=0, must-revalidate`.
    #[serde(default)]
    pub(crate) cache: Vec<CacheRule>,
    /// `Content-Type` by the extension of files, as in `{ webmanifest = "application/manifest+json" }`. Common extensions have
    /// one.
    #[serde(default)]
    pub(crate) types: BTreeMap<String, String>,
    /// The site's address, for the outputs and the ledger.
    pub(crate) url: Option<String>,
    /// Where the bucket is served, so that a release can be looked at below `releases/` before it serves.
    pub(crate) preview: Option<String>,
    /// With `preview`: the check that a release has to pass before it serves. Default: its `/index.html`.
    pub(crate) health: Option<Probe>,
    /// A distribution of CloudFront in front of the bucket, whose copies are invalidated.
    pub(crate) cloudfront: Option<Cloudfront>,
    /// How many releases to keep for a rollback, beside the one that serves.
    #[serde(default = "default_keep")]
    pub(crate) keep: u32,
    /// `blue-green` waits before the switch, or keeps the way back open after it. Default: the switch at once.
    pub(crate) strategy: Option<Strategy>,
}

fn default_scratch() -> String {
    ".deploy".to_owned()
}

fn default_root() -> bool {
    true
}

fn default_keep() -> u32 {
    5
}

/// How long files are cached.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct CacheRule {
    /// A pattern of paths: `*` doesn't cross folders, `**` does.
    pub(crate) files: String,
    /// The value of `Cache-Control`.
    pub(crate) control: String,
}

/// A distribution of CloudFront.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Cloudfront {
    /// The distribution's id.
    pub(crate) distribution: String,
    /// The name of the credential that signs requests to CloudFront. Its only origin is where they go.
    pub(crate) credential: String,
    /// The paths to invalidate.
    #[serde(default = "default_paths")]
    pub(crate) paths: Vec<String>,
    /// How long an invalidation may take.
    #[serde(default = "default_deadline")]
    pub(crate) deadline: DurationText,
}

fn default_paths() -> Vec<String> {
    vec!["/*".to_owned()]
}

fn default_deadline() -> DurationText {
    DurationText(Duration::from_secs(15 * 60))
}

impl ReleaseConfig for Config {
    fn problems(&self) -> Vec<Problem> {
        problems(self)
    }

    fn service(&self) -> &str {
        &self.bucket
    }

    fn probes(&self) -> Vec<(&'static str, Probe)> {
        // Without a preview, only the bucket is asked.
        let health = self.health.clone().unwrap_or_else(|| Probe::of_path("/index.html"));
        vec![("health", health)]
    }

    fn strategy(&self) -> Strategy {
        self.strategy.clone().unwrap_or_else(Strategy::switch)
    }
}

impl Config {
    /// What identifies the content of the release, by digest.
    pub(crate) fn artifact(&self) -> &str {
        self.site.as_str()
    }

    /// The name of the release: of the files and of the headers that they are served with, so that it is the same whenever
    /// these are.
    pub(crate) fn release(&self) -> String {
        let mut digest = Sha256::new_with_prefix(self.site.digest());
        let rules = self.cache.iter().map(|rule| (&rule.files, &rule.control));
        for (key, value) in rules.chain(&self.types) {
            digest.update(format!("\n{key}\t{value}"));
        }
        digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// A key of the bucket below the site's folder.
    pub(crate) fn key(&self, path: &str) -> String {
        match self.prefix.trim_matches('/') {
            "" => path.to_owned(),
            prefix => format!("{prefix}/{path}"),
        }
    }
}

/// Mistakes that parsing doesn't catch.
fn problems(config: &Config) -> Vec<Problem> {
    let mut found: Vec<Problem> = config.site.problem("site").into_iter().collect();
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    if config.bucket.len() < 3 || config.bucket.len() > 63 || !config.bucket.chars().all(fits) {
        let message = format!("invalid bucket name `{}`; use 3 to 63 of a to z, 0 to 9, `-` and `.`", config.bucket);
        found.push(Problem::at("bucket", message));
    }
    for (index, rule) in config.cache.iter().enumerate() {
        if rule.files.starts_with('/') {
            let message = format!("`{}` never matches: paths have no slash at their beginning", rule.files);
            found.push(Problem::at(format!("cache[{index}].files"), message));
        }
    }
    for extension in config.types.keys().filter(|extension| extension.starts_with('.')) {
        let message = format!("`{extension}` never matches: write the extension without its dot");
        found.push(Problem::at(format!("types.{extension}"), message));
    }
    for (key, url) in [("url", &config.url), ("preview", &config.preview)] {
        let is_url = |url: &String| url.starts_with("http://") || url.starts_with("https://");
        if let Some(wrong) = url.as_ref().filter(|url| !is_url(url)) {
            found.push(Problem::at(key, format!("`{wrong}` isn't a URL with http or https")));
        }
    }
    if let Some(health) = &config.health {
        found.extend(health.problems("health"));
        if config.preview.is_none() {
            let problem = Problem::at("health", "a release can be checked only where it can be looked at");
            found.push(problem.help("add `preview` with the URL at which the bucket is served"));
        }
    }
    found.extend(config.strategy.iter().flat_map(|strategy| strategy.problems("strategy")));
    let refused = match &config.strategy {
        Some(Strategy::Canary(_)) => "a bucket has no way to give a share of the requests to one of two releases",
        Some(Strategy::Rolling(_)) => "a site has no replicas that could be replaced a few at a time",
        Some(Strategy::Recreate(_)) => "a site has nothing that could be stopped before the new release",
        _ => return found,
    };
    found.push(Problem::at("strategy", refused).help("use `blue-green`, or leave out `strategy`"));
    found
}
