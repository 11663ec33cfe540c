//! The copies of each format. `CANARY` marks what must not get into a copy.

use super::*;

#[track_caller]
fn copied(format: ConfigFormat, text: &str, expected: &str) {
    let copy = without_secrets(format, text);
    assert!(!copy.contains("CANARY"), "{copy}");
    assert_eq!(copy, expected);
    assert_eq!(without_secrets(format, &copy), copy, "copying a copy changes nothing");
}

#[test]
fn a_copy_for_git_has_the_settings_for_history_and_clients() {
    let text = r#"
[core]
	repositoryformatversion = 0
	bare = false
	sshCommand = ssh -i /CANARY -o ProxyCommand=CANARY
	askPass = CANARY
	fsmonitor = CANARY
	hooksPath = /CANARY
[user]
	name = Ada L.
	email = ada@example.org
	signingKey = CANARY
[sendemail]
	smtpPass = CANARY
[imap]
	pass = CANARY
[credential]
	helper = "!f() { echo password=CANARY; }; f"
[credential "https://host"]
	username = CANARY
[http]
	sslVerify = true
	extraHeader = Authorization: Basic \
		CANARY
	extraheader = X-Api-Key: CANARY
	proxy = user:CANARY@proxy.example.org:3128
	cookieFile = /CANARY
	sslKey = CANARY
[http "https://u:CANARY@git.example.org"]
	sslCAInfo = /etc/ssl/ca.pem
	extraHeader = CANARY
[include]
	path = /CANARY
[includeIf "gitdir:~/work/"]
	path = /CANARY
[remote "origin"]
	url = https://bob:CANARY@example.org/x.git?private_token=CANARY
	pushurl = "https://CANARY@example.org/x.git"
	proxy = http://u:CANARY@p
	fetch = +refs/heads/*:refs/remotes/origin/*
[remote "ssh"]
	url = git@example.org:x.git
[remote "https://u:CANARY@host/y"]
	fetch = +refs/*:refs/*
[branch "main"]
	remote = https://u:CANARY@example.org/z
	merge = refs/heads/main
	description = CANARY
[url "https://oauth2:CANARY@example.org/"]
	insteadOf = https://example.org/
	pushInsteadOf = git@example.org:
[submodule "lib"]
	active = true
	url = https://u:CANARY@example.org/lib
	update = !CANARY
[filter "lfs"]
	clean = git-lfs clean -- %f
	process = git-lfs filter-process
	required = true
[filter "crypt"]
	smudge = openssl enc -d -k CANARY
[alias]
	release = "!curl -H 'Token: CANARY'"
[gc]
	auto = 0
	logExpiry = CANARY
[safe]
	directory = *
"#;
    let expected = r#"[core]
	repositoryformatversion = "0"
	bare = "false"
[user]
	name = "Ada L."
	email = "ada@example.org"
[http]
	sslverify = "true"
[http "https://git.example.org"]
	sslcainfo = "/etc/ssl/ca.pem"
[remote "origin"]
	url = "https://example.org/x.git"
	pushurl = "https://example.org/x.git"
	fetch = "+refs/heads/*:refs/remotes/origin/*"
[remote "ssh"]
	url = "git@example.org:x.git"
[branch "main"]
	remote = "https://example.org/z"
	merge = "refs/heads/main"
[url "https://example.org/"]
	insteadof = "https://example.org/"
	pushinsteadof = "git@example.org:"
[submodule "lib"]
	active = "true"
	url = "https://example.org/lib"
[filter "lfs"]
	clean = "git-lfs clean -- %f"
	process = "git-lfs filter-process"
	required = "true"
[gc]
	auto = "0"
[safe]
	directory = "*"
"#;
    copied(ConfigFormat::Git, text, expected);
}

#[test]
fn a_value_of_git_cannot_begin_another_line_or_section() {
    let text = "[user]\n\tname = \"Ada\\n[http]\\n\\tproxy = CANARY\"\n\temail = \"a\\\"b\\\\ # c\" ; CANARY\n";
    copied(ConfigFormat::Git, text, "[user]\n\temail = \"a\\\"b\\\\ # c\"\n");
    copied(ConfigFormat::Git, "[user \"x\"]\n\tname = CANARY\n[user\n\ttoken = CANARY\n", "");
}

#[test]
fn a_copy_for_npm_has_registries_without_credentials() {
    let text = "; CANARY\nregistry=https://ada:CANARY@npm.test/a?t=CANARY\n@acme:registry = \"https://CANARY@acme.test/npm/\"\n\
                //npm.test/:_authToken=CANARY\n//npm.test/:username=CANARY\n_auth=CANARY\n_password=CANARY\nemail=CANARY\n\
                proxy=user:CANARY@proxy.test:1\nhttps-proxy=http://u:CANARY@proxy.test\nkey=\"CANARY\"\ncert=\"CANARY\"\n\
                //npm.test/:certfile=/CANARY\nsave-exact=true\nloglevel=CANARY x\ncafile=/etc/ca.pem\nmy-token=CANARY\n\
                public-hoist-pattern[]=*eslint*\nca[]=\"-----BEGIN PRIVATE KEY-----CANARY\"\n[x]\nregistry=https://CANARY\n";
    let expected = "registry=\"https://npm.test/a\"\n@acme:registry=\"https://acme.test/npm/\"\nsave-exact=\"true\"\n\
                    cafile=\"/etc/ca.pem\"\npublic-hoist-pattern[]=\"*eslint*\"\n";
    copied(ConfigFormat::Npm, text, expected);
}

#[test]
fn a_copy_for_asdf_has_versions_and_no_commands() {
    let text =
        "# CANARY\nlegacy_version_file = yes\npre_asdf_install_nodejs = curl -H CANARY\nlegacy_version_file = CANARY\n";
    copied(ConfigFormat::Asdf, text, "legacy_version_file = yes\n");
    let text = "nodejs 20.2.0 system # CANARY\npython  ref:v3.12\nCANARY\ntoken https://ada:CANARY@host.test/\n";
    copied(ConfigFormat::ToolVersions, text, "nodejs 20.2.0 system\npython ref:v3.12\n");
}

#[test]
fn a_copy_for_pip_has_indexes_without_credentials() {
    let text = "[global]\nindex-url = https://u:CANARY@pypi.test/simple\nextra-index-url =\n    https://CANARY@one.test/s\n    \
                https://two.test/s#CANARY\nproxy = u:CANARY@proxy.test:1\nclient-cert = /CANARY\nkeyring-provider = CANARY\n\
                timeout = 60\n[install]\nno-binary = :all:,CANARY\nuser = true\n[x y]\nuser = CANARY\n";
    let expected = "[global]\nindex-url = https://pypi.test/simple\nextra-index-url = https://one.test/s\n    \
                    https://two.test/s\ntimeout = 60\n[install]\nuser = true\n";
    copied(ConfigFormat::Pip, text, expected);
}

#[test]
fn a_copy_for_cargo_has_sources_and_build_settings() {
    let text = r#"
[registries.acme]
index = "sparse+https://u:CANARY@acme.test/index/"
token = "CANARY"
credential-provider = ["cargo:token-from-stdout", "CANARY"]
[registry]
default = "acme"
token = "CANARY"
global-credential-providers = ["CANARY"]
[source.crates-io]
replace-with = "mirror"
[source.mirror]
registry = "https://CANARY@mirror.test/"
[http]
proxy = "user:CANARY@proxy.test:1"
timeout = 30
[env]
API_KEY = "CANARY"
[alias]
deploy = "publish --token CANARY"
[build]
jobs = 2
rustflags = ["-C", "link-arg=-fuse-ld=lld"]
[target.x86_64-unknown-linux-gnu]
linker = "clang"
[target.'cfg(unix)'.links]
secret = "CANARY"
[profile.dev.package.a]
opt-level = 3
my-key = "CANARY"
[patch."https://u:CANARY@host/x"]
a = { git = "ssh://git@host/y", branch = "main" }
[term]
color = "auto"
token = "CANARY"
[net]
git-fetch-with-cli = true
[include]
path = "CANARY"
"#;
    let expected: toml::Table = r#"
registries.acme.index = "sparse+https://acme.test/index/"
registry.default = "acme"
source.crates-io.replace-with = "mirror"
source.mirror.registry = "https://mirror.test/"
http.timeout = 30
build = { jobs = 2, rustflags = ["-C", "link-arg=-fuse-ld=lld"] }
target.x86_64-unknown-linux-gnu.linker = "clang"
profile.dev.package.a.opt-level = 3
patch."https://host/x".a = { git = "ssh://git@host/y", branch = "main" }
term.color = "auto"
net.git-fetch-with-cli = true
"#
    .parse()
    .unwrap();
    copied(ConfigFormat::Cargo, text, &expected.to_string());
    copied(ConfigFormat::Cargo, "token = CANARY", "");
}

#[test]
fn a_copy_for_php_has_extensions_and_settings_of_the_language() {
    let text = "[PHP]\nmemory_limit = 128M ; CANARY\nextension=mbstring.so\nzend_extension = \"opcache\"\n\
                error_reporting = E_ALL & ~E_DEPRECATED\nmysqli.default_pw = CANARY\nnewrelic.license = \"CANARY\"\n\
                ;extension=CANARY\n";
    let expected = "memory_limit = \"128M\"\nextension = \"mbstring.so\"\nzend_extension = \"opcache\"\n\
                    error_reporting = E_ALL & ~E_DEPRECATED\n";
    copied(ConfigFormat::Php, text, expected);
}

#[test]
fn a_folder_is_copied_with_its_links_and_without_files_of_other_formats() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("php"), folder.path().join("copy"));
    fs::create_dir_all(from.join("8.2/cli/conf.d")).unwrap();
    fs::create_dir_all(from.join("8.2/mods-available")).unwrap();
    fs::write(from.join("8.2/mods-available/x.ini"), "extension = x\nx.token = CANARY\n").unwrap();
    fs::write(from.join("8.2/pool.conf"), "env[PASSWORD] = CANARY\n").unwrap();
    symlink("../../mods-available/x.ini", from.join("8.2/cli/conf.d/x.ini")).unwrap();
    copy(ConfigFormat::Php, &from, &to).unwrap();
    let copied = stagewright_files::read_text(&to.join("8.2/cli/conf.d/x.ini"), CONFIGURATION).unwrap();
    assert_eq!(copied, "extension = \"x\"\n");
    assert!(!to.join("8.2/pool.conf").exists());
}
