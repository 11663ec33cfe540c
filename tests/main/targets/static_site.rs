//! The target `static`, on a bucket of the test's own.

mod faults;

use serde_json::{Value as Json, json};

use super::aws::{Answer, Aws, credential, deploy, repository, start_seaweed};
use super::engine::{kill_at_every_write, rollout};
use super::machine::Machine;
use crate::environment::{TestEnvironment, after, eventually, outcomes};

/// CREDENTIALS and DEPLOY are replaced.
const PIPELINE: &str = r#"
schema = 1
[pipeline]
name = "site"
[inputs.version]

[environments.production]
target = "static"

[stages.build]
uses = "command"
with = { argv = ["python3", "build.py"], artifacts = ["dist"] }
env = { VERSION = "${{ inputs.version }}" }
permissions = { process = ["python3"], read = ["build.py", "dist"], write = ["dist"] }

[stages.deploy]
uses = "deploy"
needs = ["build"]
environment = "production"
[stages.deploy.with]
bucket = "www"
credential = "s3"
site = "${{ stages.build.outputs.artifacts.dist }}"
url = "http://127.0.0.1:4566/www"
cache = [{ files = "assets/**", control = "public, max-age=31536000, immutable" }]
DEPLOY
"#;

/// A page and a script that change with each version, a file that doesn't, and a page that every version has to itself.
const BUILD: &str = r#"
import os, pathlib, shutil
version = os.environ["VERSION"]
shutil.rmtree("dist", ignore_errors=True)
assets = pathlib.Path("dist/assets")
assets.mkdir(parents=True)
pathlib.Path("dist/index.html").write_text(f"version {version}")
pathlib.Path(f"dist/only-{version}.html").write_text(version)
(assets / f"app.{version}.js").write_text(version)
(assets / "a + b.css").write_text("same")
"#;

struct Website {
    aws: Aws,
    repository: TestEnvironment,
}

impl Website {
    fn with(more: &str) -> Website {
        let aws = Aws::start();
        aws.send("s3", "PUT", "/www", &[], "").ok();
        let deploy = PIPELINE.replace("DEPLOY", more);
        let credentials = [credential("s3", "s3", "127.0.0.1:4566"), credential("cdn", "cloudfront", "localhost:4566")];
        let used = if more.contains("cloudfront") { &credentials[..] } else { &credentials[..1] };
        let repository = aws.repository(&format!("{deploy}\n{}", used.concat()), &[("build.py", BUILD)]);
        Website { aws, repository }
    }

    fn get(&self, path: &str) -> Answer {
        self.aws.send("s3", "GET", &format!("/www/{path}"), &[], "")
    }

    /// The page at the root.
    fn page(&self) -> String {
        self.get("index.html").body
    }

    fn pointer(&self) -> Json {
        self.get("releases/current.json").json()
    }

    /// Replaces the pointer by hand.
    fn write_pointer(&self, pointer: &Json) {
        self.aws.send("s3", "PUT", "/www/releases/current.json", &[], &pointer.to_string()).ok();
    }

    /// All keys in the bucket.
    fn keys(&self) -> Vec<String> {
        let listing = self.aws.send("s3", "GET", "/www?list-type=2", &[], "").ok().body;
        listing.split("<Key>").skip(1).filter_map(|rest| Some(rest.split_once("</Key>")?.0.to_owned())).collect()
    }
}

#[test]
fn a_site_is_switched_at_once_and_rolled_back_without_sending_anything() {
    let website = Website::with("keep = 1");
    website.aws.send("s3", "PUT", "/www/other.html", &[], "not ours").ok();
    deploy(&website.repository, &["version=1"], 0);
    assert_eq!(website.page(), "version 1");
    let second = deploy(&website.repository, &["version=2"], 0);
    assert!(
        second.stdout.contains("sending 3 files of release ")
            && second.stdout.contains(", and copying 1 file from the one before"),
        "{}",
        second.stdout
    );
    assert_eq!(website.page(), "version 2");

    let page = website.get("index.html").headers;
    assert!(
        page.contains("content-type: text/html; charset=utf-8") && page.contains("max-age=0, must-revalidate"),
        "{page}"
    );
    let style = website.get("assets/a%20%2B%20b.css").headers;
    assert!(style.contains("content-type: text/css") && style.contains("max-age=31536000, immutable"), "{style}");
    // A page that is gone is deleted. A script of a release that is kept stays, for those who still have its page.
    let has = |path: &str| website.get(path).status == "200";
    assert_eq!(
        ["only-1.html", "only-2.html", "assets/app.1.js", "assets/app.2.js"].map(has),
        [false, true, true, true]
    );

    let rolled_back = website.repository.run(&["rollback", "production"]).exits(0);
    assert!(
        rolled_back.stdout.contains("the bucket has release ") && !rolled_back.stdout.contains("sending"),
        "{}",
        rolled_back.stdout
    );
    assert_eq!(website.page(), "version 1");
    assert_eq!(["only-1.html", "only-2.html"].map(has), [true, false]);

    deploy(&website.repository, &["version=3"], 0);
    deploy(&website.repository, &["version=4"], 0);
    let kept = ["assets/app.1.js", "assets/app.2.js", "assets/app.3.js", "assets/app.4.js"].map(has);
    assert_eq!(kept, [false, false, true, true], "{:?}", website.keys());
    let lists = website.keys().into_iter().filter(|key| key.starts_with("releases/") && key.ends_with(".json"));
    assert_eq!(lists.count(), 3, "two releases and the pointer: {:?}", website.keys());
    assert_eq!(website.get("other.html").body, "not ours");
}

#[test]
fn a_deploy_that_was_overtaken_is_refused_by_the_bucket() {
    let website = Website::with("");
    deploy(&website.repository, &["version=1"], 0);
    let mut pointer = website.pointer();
    pointer["fence"] = json!(1000);
    website.write_pointer(&pointer);
    let before = website.keys();
    let stale = deploy(&website.repository, &["version=2"], 1);
    assert!(stale.stdout.contains("a deploy to `www` has the token 1000, which is newer than 2"), "{}", stale.stdout);
    assert_eq!((website.keys(), website.page()), (before, "version 1".to_owned()));
}

#[test]
fn what_was_changed_by_hand_is_overwritten_only_after_an_approval() {
    let website = Website::with("");
    deploy(&website.repository, &["version=1"], 0);
    let first = website.pointer();
    deploy(&website.repository, &["version=2"], 0);
    website.repository.run(&["env", "status", "production", "--live"]).exits(0);
    let mut pointer = website.pointer();
    pointer["serving"] = first["serving"].clone();
    website.write_pointer(&pointer);
    let live = website.repository.run(&["env", "status", "production", "--live"]).exits(8).stdout;
    assert!(live.contains("in place     release: site@sha256:") || live.contains("was deployed as "), "{live}");

    let asked = deploy(&website.repository, &["version=3"], 5).stdout;
    assert!(asked.contains("production has 1 change that no deploy has made"), "{asked}");
    assert!(asked.contains("changed by someone else: release: "), "{asked}");
    assert_eq!(website.pointer(), pointer);
    let approve = |mark: &str, code: i32| {
        let field = format!("overwrite={mark}");
        website.repository.run(&["approve", "latest", "deploy", "--field", &field]).exits(code);
    };
    approve("00000000", 4);
    approve(&after(&asked, "--field overwrite=", 8), 0);
    website.repository.run(&["resume", "latest"]).exits(0);
    assert_eq!(website.page(), "version 3");
}

#[test]
fn a_site_is_promoted_with_the_files_of_its_run() {
    let website = Website::with("");
    website.aws.send("s3", "PUT", "/staging", &[], "").ok();
    let text = website.repository.read("stagewright.toml");
    let (_, deploy) = text.split_once("[stages.deploy]").expect("a deploy");
    let deploy = deploy.split("[credentials").next().unwrap_or_default();
    let staging = format!("[environments.staging]\ntarget = \"static\"\n\n[stages.staging]{deploy}")
        .replace("\"production\"", "\"staging\"")
        .replace("bucket = \"www\"", "bucket = \"staging\"")
        .replace("[stages.deploy.", "[stages.staging.");
    website
        .repository
        .write("stagewright.toml", &text.replace("[stages.build]", &format!("{staging}\n[stages.build]")));
    website.repository.run(&["grant", "--yes"]).exits(0);
    website.repository.run(&["run", "--only", "staging", "--input", "version=1"]).exits(0);
    website.repository.run(&["promote", "staging", "production"]).exits(0);
    assert_eq!(website.page(), "version 1");
    let list =
        |bucket: &str| website.aws.send("s3", "GET", &format!("/{bucket}/releases/current.json"), &[], "").json();
    assert_eq!(list("www")["release"], list("staging")["release"]);
}

const GATED: &str = r#"
preview = "http://127.0.0.1:4566/www"
strategy = { blue-green = { auto-promotion-enabled = false, scale-down-delay = "0s" } }
"#;

#[test]
fn a_release_can_be_looked_at_before_the_switch() {
    let website = Website::with(GATED);
    deploy(&website.repository, &["version=1"], 5);
    website.repository.run(&["rollout", "promote", "production"]).exits(0);
    deploy(&website.repository, &["version=2"], 5);
    let release = website.pointer()["candidate"]["release"].as_str().expect("a candidate").to_owned();
    assert_eq!(website.page(), "version 1");
    assert_eq!(website.get(&format!("releases/{release}/index.html")).body, "version 2");
    website.repository.run(&["rollout", "abort", "production"]).exits(1);
    assert_eq!(website.page(), "version 1");
    assert!(!website.keys().iter().any(|key| key.contains(&release)), "{:?}", website.keys());

    // Something else replaces the release while a person decides.
    deploy(&website.repository, &["version=3"], 5);
    let mut pointer = website.pointer();
    pointer["candidate"] = Json::Null;
    website.write_pointer(&pointer);
    let promoted = website.repository.run(&["rollout", "promote", "production"]);
    assert_eq!(promoted.code, 5, "it is applied again, and waits again: {}", promoted.stdout);
    website.repository.run(&["rollout", "promote", "production"]).exits(0);
    assert_eq!(website.page(), "version 3");
}

const DELAYED: &str = r#"strategy = { blue-green = { scale-down-delay = "10m" } }"#;

#[test]
fn a_deploy_that_is_aborted_after_the_switch_restores_the_files_at_the_root() {
    let website = Website::with(DELAYED);
    let deploy_until_switched = |version: &str| {
        let input = format!("version={version}");
        let run = website.repository.start(&["run", "--input", &input]);
        eventually("the site is switched", || (website.page() == format!("version {version}")).then_some(()));
        eventually("the rollout is paused", || (rollout(&website.repository)["phase"] == "paused").then_some(()));
        run
    };
    let mut first = deploy_until_switched("1");
    website.repository.run(&["rollout", "promote", "production"]).exits(0);
    assert!(first.wait().expect("an end").success());
    let mut second = deploy_until_switched("2");
    website.repository.run(&["rollout", "abort", "production"]).exits(0);
    assert_eq!(second.wait().expect("an end").code(), Some(1));
    assert_eq!(website.page(), "version 1");
    let has = |path: &str| website.get(path).status == "200";
    assert_eq!(["only-1.html", "only-2.html", "assets/app.2.js"].map(has), [true, false, false]);
    let pointer = website.pointer();
    assert_eq!((&pointer["release"], &pointer["candidate"]), (&pointer["serving"]["release"], &Json::Null));
}

#[test]
fn a_deploy_survives_a_kill_at_any_write_to_the_journal() {
    let website = Website::with("");
    deploy(&website.repository, &["version=0"], 0);
    kill_at_every_write(&website.repository, 11, |version| {
        assert_eq!(website.page(), format!("version {version}"));
        let pointer = website.pointer();
        assert_eq!((&pointer["release"], &pointer["candidate"]), (&pointer["serving"]["release"], &Json::Null));
    });
}

const CDN: &str = r#"cloudfront = { credential = "cdn", distribution = "DISTRIBUTION" }"#;

#[test]
fn copies_of_a_distribution_are_invalidated_after_the_switch() {
    let website = Website::with(CDN);
    let origin = "<Items><Origin><Id>www</Id><DomainName>www.s3.amazonaws.com</DomainName><S3OriginConfig>\
                  <OriginAccessIdentity></OriginAccessIdentity></S3OriginConfig></Origin></Items><Quantity>1</Quantity>";
    let config = format!(
        "<DistributionConfig xmlns=\"http://cloudfront.amazonaws.com/doc/2020-05-31/\"><CallerReference>test</CallerReference>\
         <Origins>{origin}</Origins><DefaultCacheBehavior><TargetOriginId>www</TargetOriginId>\
         <ViewerProtocolPolicy>allow-all</ViewerProtocolPolicy><CachePolicyId>658327ea-f89d-4fab-a63d-7e88639e58f6</CachePolicyId>\
         </DefaultCacheBehavior><Comment></Comment><Enabled>true</Enabled></DistributionConfig>"
    );
    let created =
        website.aws.send("cloudfront", "POST", "/2020-05-31/distribution", &["content-type: text/xml"], &config).ok();
    let id = created.body.split("<Id>").nth(1).and_then(|rest| Some(rest.split_once("</Id>")?.0)).expect("an id");
    let text = website.repository.read("stagewright.toml").replace("DISTRIBUTION", id);
    website.repository.write("stagewright.toml", &text);
    let invalidations = || {
        let listed =
            website.aws.send("cloudfront", "GET", &format!("/2020-05-31/distribution/{id}/invalidation"), &[], "");
        listed.ok().body.matches("<InvalidationSummary>").count()
    };
    assert_eq!(invalidations(), 0);
    deploy(&website.repository, &["version=1"], 0);
    assert_eq!(invalidations(), 1);
    // A distribution that doesn't exist fails the deploy, and the release before it is restored.
    website.repository.write("stagewright.toml", &text.replace(id, "E000"));
    let failed = deploy(&website.repository, &["version=2"], 1);
    assert!(failed.stdout.contains("CreateInvalidation was refused with 404: NoSuchDistribution"), "{}", failed.stdout);
    assert_eq!(website.page(), "version 1");
}

#[test]
fn a_rehearsal_sends_nothing_and_a_wrong_key_is_named() {
    let mut website = Website::with("");
    let (code, events) = website.repository.events(&["run", "--rehearse", "--input", "version=1"]);
    assert_eq!((code, outcomes(&events)["deploy"].as_str()), (0, "rehearsed"), "{events:#?}");
    assert!(website.keys().is_empty());
    website.repository.set("KEY_ID", "AKIAOTHER");
    let refused = deploy(&website.repository, &["version=1"], 1);
    assert!(refused.stdout.contains("GetObject was refused with 403: InvalidAccessKeyId"), "{}", refused.stdout);
    assert!(refused.stdout.contains("check the secrets `access-key-id`"), "{}", refused.stdout);
}

#[test]
fn a_server_of_another_maker_checks_signatures_and_conditions() {
    let machine = Machine::start();
    start_seaweed(&machine);
    let pipeline = PIPELINE.replace("DEPLOY", "").replace(":4566", ":8333");
    let pipeline = format!("{pipeline}\n{}", credential("s3", "s3", "127.0.0.1:8333"));
    let mut repository = repository(&machine, &pipeline, &[("build.py", BUILD)]);
    let page = || machine.get("http://127.0.0.1:8333/www/index.html");
    deploy(&repository, &["version=1"], 0);
    deploy(&repository, &["version=2"], 0);
    assert_eq!(page().as_deref(), Some("version 2"));
    repository.run(&["rollback", "production"]).exits(0);
    assert_eq!(page().as_deref(), Some("version 1"));
    repository.set("KEY", "another-key");
    let refused = deploy(&repository, &["version=3"], 1);
    assert!(refused.stdout.contains("GetObject was refused with 403: SignatureDoesNotMatch"), "{}", refused.stdout);
    assert!(refused.stdout.contains("check the secret `secret-access-key` of [credentials.s3]"), "{}", refused.stdout);

    let put = |condition: &str| {
        let status = ["-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", "PUT", "--data", "{}", "-H", condition];
        machine.run("curl", &[&status[..], &["http://127.0.0.1:8333/www/releases/current.json"]].concat())
    };
    assert_eq!([put("if-none-match: *"), put("if-match: \"0\"")], ["412", "412"]);
}
