//! Variables of the engine's environment that are known to hold no credentials.

/// Variables that configure a tool, name a folder, or describe what is being built.
const HARMLESS: [&str; 78] = [
    "AR",
    "BUN_INSTALL",
    "BUNDLE_PATH",
    "CARGO",
    "CARGO_BUILD_JOBS",
    "CARGO_BUILD_TARGET",
    "CARGO_HOME",
    "CARGO_INCREMENTAL",
    "CARGO_NET_OFFLINE",
    "CARGO_TARGET_DIR",
    "CC",
    "CFLAGS",
    "CI",
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "CMAKE_BUILD_PARALLEL_LEVEL",
    "COLORTERM",
    "CPPFLAGS",
    "CURL_CA_BUNDLE",
    "CXX",
    "CXXFLAGS",
    "DEBIAN_FRONTEND",
    "FORCE_COLOR",
    "GEM_HOME",
    "GEM_PATH",
    "GIT_SSL_CAINFO",
    "GOARCH",
    "GOBIN",
    "GOCACHE",
    "GOFLAGS",
    "GOMAXPROCS",
    "GOMODCACHE",
    "GOOS",
    "GOPATH",
    "GOROOT",
    "GRADLE_HOME",
    "GRADLE_USER_HOME",
    "HOME",
    "HOSTNAME",
    "JAVA_HOME",
    "LANG",
    "LANGUAGE",
    "LD",
    "LDFLAGS",
    "LD_LIBRARY_PATH",
    "LOGNAME",
    "M2_HOME",
    "MAKEFLAGS",
    "MAVEN_HOME",
    "NODE_ENV",
    "NODE_EXTRA_CA_CERTS",
    "NODE_PATH",
    "NO_COLOR",
    "NPROC",
    "NVM_DIR",
    "PATH",
    "PKG_CONFIG_PATH",
    "PNPM_HOME",
    "PWD",
    "PYENV_ROOT",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONHASHSEED",
    "PYTHONPATH",
    "PYTHONUNBUFFERED",
    "REQUESTS_CA_BUNDLE",
    "RUSTC",
    "RUSTDOCFLAGS",
    "RUSTFLAGS",
    "RUST_BACKTRACE",
    "RUST_LOG",
    "SHELL",
    "SOURCE_DATE_EPOCH",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TERM",
    "TMPDIR",
    "TZ",
    "USER",
];
/// Variables with such a prefix, followed by one of these names, or by anything and one of these suffixes: in
/// `CARGO_PROFILE_RELEASE_LTO` the part between them is the name of a cargo profile.
const HARMLESS_PREFIXES: [(&str, &[&str]); 5] = [
    (
        "CARGO_PROFILE_",
        &[
            "_ASSERTIONS",
            "_CHECKS",
            "_DEBUG",
            "_DEBUGINFO",
            "_INCREMENTAL",
            "_LTO",
            "_OPT_LEVEL",
            "_PANIC",
            "_STRIP",
            "_UNITS",
        ],
    ),
    ("CARGO_TERM_", &["COLOR", "HYPERLINKS", "PROGRESS_WHEN", "PROGRESS_WIDTH", "QUIET", "UNICODE", "VERBOSE"]),
    (
        "LC_",
        &[
            "ADDRESS",
            "ALL",
            "COLLATE",
            "CTYPE",
            "IDENTIFICATION",
            "MEASUREMENT",
            "MESSAGES",
            "MONETARY",
            "NAME",
            "NUMERIC",
            "PAPER",
            "TELEPHONE",
            "TIME",
        ],
    ),
    ("RUSTUP_", &["HOME", "TOOLCHAIN"]),
    ("RUST_TEST_", &["NOCAPTURE", "SHUFFLE", "THREADS", "TIME_INTEGRATION", "TIME_UNIT"]),
];
/// Variables in which CI systems describe the commit and the job. Their tokens are in other variables.
const HARMLESS_OF_CI: [&str; 30] = [
    "BUILDKITE_BRANCH",
    "BUILDKITE_BUILD_NUMBER",
    "BUILDKITE_COMMIT",
    "BUILDKITE_TAG",
    "CI_COMMIT_BRANCH",
    "CI_COMMIT_REF_NAME",
    "CI_COMMIT_SHA",
    "CI_COMMIT_SHORT_SHA",
    "CI_COMMIT_TAG",
    "CI_JOB_ID",
    "CI_JOB_NAME",
    "CI_PIPELINE_ID",
    "CI_PIPELINE_IID",
    "CI_PROJECT_NAME",
    "CI_PROJECT_PATH",
    "GITHUB_ACTIONS",
    "GITHUB_ACTOR",
    "GITHUB_BASE_REF",
    "GITHUB_EVENT_NAME",
    "GITHUB_HEAD_REF",
    "GITHUB_JOB",
    "GITHUB_REF",
    "GITHUB_REF_NAME",
    "GITHUB_REF_TYPE",
    "GITHUB_REPOSITORY",
    "GITHUB_RUN_ATTEMPT",
    "GITHUB_RUN_ID",
    "GITHUB_RUN_NUMBER",
    "GITHUB_SHA",
    "GITLAB_CI",
];
/// The variables that configure a program's proxy. A stage's programs don't inherit them unchanged: they get the
/// engine's own proxy, or the address without the user name and password in it.
pub const PROXY_VARIABLES: [&str; 4] = ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"];

/// Whether a variable of the engine's own environment is known to hold no credential, by its name.
///
/// This is an allow list. A list of names that look like tokens would miss `DEPLOY`, `SSH_AUTH_SOCK` or `MY_PAT`. A
/// stage that inherits any other variable is treated as one that can publish.
pub fn is_harmless_variable(name: &str) -> bool {
    HARMLESS.contains(&name)
        || HARMLESS_OF_CI.contains(&name)
        || HARMLESS_PREFIXES.iter().any(|(prefix, ends)| {
            let rest = name.strip_prefix(prefix).unwrap_or_default();
            ends.iter().any(|end| if end.starts_with('_') { rest.ends_with(end) } else { rest == *end })
        })
        || PROXY_VARIABLES.iter().any(|proxy| name.eq_ignore_ascii_case(proxy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_variable_is_treated_as_a_credential() {
        for name in [
            "CARGO_TERM_COLOR",
            "CARGO_PROFILE_RELEASE_LTO",
            "LANG",
            "LC_ALL",
            "RUSTUP_TOOLCHAIN",
            "https_proxy",
            "GITHUB_SHA",
            "TZ",
        ] {
            assert!(is_harmless_variable(name), "{name}");
        }
        for name in [
            "NPM_TOKEN",
            "CARGO_REGISTRY_TOKEN",
            "CARGO_REGISTRIES_ACME_TOKEN",
            "GITHUB_TOKEN",
            "CI_JOB_TOKEN",
            "SSH_AUTH_SOCK",
            "DEPLOY",
            "npm_config__auth",
            "LC_TOKEN",
            "CARGO_TERM_TOKEN",
            "RUSTUP_TOKEN",
            "CARGO_PROFILE_TOKEN",
            "path",
            "",
        ] {
            assert!(!is_harmless_variable(name), "{name}");
        }
    }
}
