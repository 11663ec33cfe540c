//! Credentials: mistakes in their tables, and what reviewers, locks and policies say of them.

use stagewright_model::{AnyImports, Interface};
use stagewright_model::{
    Bounds, EffectClass, Lock, LockedPipeline, OperatorPolicy, PluginCode, PluginPin, Reaches, remarks,
};

use crate::{errors, file, parse, plan, render};

const DEPLOY: &str = r#"
[secrets.token]
from = "env:TOKEN"
hosts = ["api.example.org"]
[secrets.ca]
from = "file:ca.pem"
[secrets.kube]
from = "env:KUBE"
hosts = ["10.0.0.1"]
[credentials.api]
type = "bearer"
token = "token"
ca = "ca"
origins = ["https://api.example.org"]
[credentials.cluster]
type = "kubeconfig"
file = "kube"
[stages.deploy]
uses = "exec"
permissions = { credentials = ["api", "cluster"] }
"#;

/// The errors in a file, each with its line.
fn mistakes(tables: &str) -> Vec<(usize, String)> {
    let text = file(tables);
    errors(&text).iter().map(|error| (error.position().0, error.message().to_owned())).collect()
}

/// The errors when `from` is replaced by `to`.
#[track_caller]
fn refuses(from: &str, to: &str, expected: &[&str]) {
    assert!(DEPLOY.contains(from), "{from}");
    let found = mistakes(&DEPLOY.replacen(from, to, 1));
    assert_eq!(found.iter().map(|(_, message)| message.as_str()).collect::<Vec<_>>(), expected, "{from} -> {to}");
}

#[test]
fn mistakes_are_reported_with_their_place_and_remedy() {
    insta::assert_snapshot!(render(&errors(&file(
        &DEPLOY
            .replace("type = \"bearer\"", "type = \"baerer\"")
            .replace("file = \"kube\"", "token = \"kube\"\ncontext = \"x\"")
            .replace("[\"api\", \"cluster\"]", "[\"apis\", \"cluster\"]")
    ))));
    insta::assert_snapshot!(render(&errors(&file(
        &DEPLOY
            .replace("[\"10.0.0.1\"]", "[]")
            .replace("file = \"kube\"", "file = \"kube\"\norigins = [\"https://10.0.0.1:6443\"]",)
    ))));
}

#[test]
fn a_secret_goes_only_to_its_own_hosts() {
    let beyond = "the credential `api` sends the secret `token`, or what is derived from it, to `evil.example.org`, which \
                  isn't among its `hosts`";
    refuses("https://api.example.org", "https://evil.example.org", &[beyond]);
    refuses("token = \"token\"", "token = \"tokens\"", &["the secret `tokens` isn't declared"]);
    refuses("ca = \"ca\"", "ca = \"nowhere\"", &["the secret `nowhere` isn't declared"]);
    // The tokens of Google and Microsoft are requested elsewhere, and a registry isn't the socket.
    for (kind, host) in [
        ("type = 'google'\nkey = 'token'\nscope = 's'", "oauth2.googleapis.com"),
        (
            "type = 'azure'\ntenant = 't'\nclient-id = 'i'\nclient-secret = 'token'\nscope = 's'",
            "login.microsoftonline.com",
        ),
    ] {
        let found = mistakes(&DEPLOY.replacen("type = \"bearer\"\ntoken = \"token\"", kind, 1));
        assert!(matches!(&found[..], [(_, message)] if message.contains(&format!("to `{host}`, which"))), "{found:?}");
    }
    let registry = "type = 'docker-registry'\nregistry = 'ghcr.io'\nusername = 'u'\npassword = 'token'\n\
                    origins = ['unix:///run/docker.sock']";
    let found = mistakes(&DEPLOY.replacen(
        "type = \"bearer\"\ntoken = \"token\"\nca = \"ca\"\norigins = [\"https://api.example.org\"]",
        registry,
        1,
    ));
    assert!(matches!(&found[..], [(_, message)] if message.contains("to `ghcr.io`, which")), "{found:?}");
}

#[test]
fn an_origin_fits_its_type_and_gets_nothing_in_plain_text() {
    let plain = "`http://api.example.org` would get a credential in plain text";
    refuses("https://api.example.org\"", "http://api.example.org\"", &[plain]);
    refuses("https://api.example.org\"", "*.example.org\"", &["`*.example.org` isn't the origin of one host"]);
    let without_tls = "`http://127.0.0.1`, an origin of the credential `api`, doesn't use TLS";
    let text = DEPLOY.replace("[\"api.example.org\"]", "[\"127.0.0.1\"]");
    assert_eq!(mistakes(&text.replace("https://api.example.org", "http://127.0.0.1"))[0].1, without_tls);
    let socket = "`unix:///run/docker.sock`, an origin of the credential `api`, is a Unix socket";
    refuses("https://api.example.org\"", "unix:///run/docker.sock\"", &[socket]);
    refuses("origins = [\"https://api.example.org\"]", "origins = []", &["`api` has no origins"]);
}

#[test]
fn two_credentials_of_a_stage_for_one_origin_are_refused_and_two_stages_may_have_them() {
    let second = "[credentials.other]\ntype = \"bearer\"\ntoken = \"token\"\norigins = [\"api.example.org:443\"]\n[stages.deploy]";
    let both = "[\"api\", \"cluster\", \"other\"]";
    let text = DEPLOY.replace("[stages.deploy]", second).replace("[\"api\", \"cluster\"]", both);
    let expected = "the credentials `api` and `other` of `deploy` both sign requests to https://api.example.org";
    assert!(mistakes(&text)[0].1.starts_with(&expected[..60]), "{:?}", mistakes(&text));
    // By a rehearsal, a set, and the defaults as well.
    let own = DEPLOY.replace("[stages.deploy]", second);
    let rehearsed = format!("{own}[stages.deploy.rehearse]\npermissions = {{ credentials = ['other'] }}\n");
    let of_set = own.replace("[\"api\", \"cluster\"]", "[\"api\", \"cluster\"], use = ['more']");
    let of_set = format!("{of_set}[permission-sets.more]\ncredentials = ['other']\n");
    let of_defaults = own.replace("permissions = { credentials = [\"api\", \"cluster\"] }\n", "");
    let of_defaults = format!("{of_defaults}[defaults.permissions]\ncredentials = ['cluster', 'api', 'other']\n");
    for text in [rehearsed, of_set, of_defaults] {
        let found = mistakes(&text);
        assert!(matches!(&found[..], [(_, message)] if message.contains("both sign requests to")), "{found:?}");
    }
    parse(&file(&format!("{own}[stages.other]\nuses = 'exec'\npermissions = {{ credentials = ['other'] }}\n")));
}

#[test]
fn secrets_of_credentials_count_as_used_and_unused_credentials_are_reported() {
    let warnings = |text: &str| parse(&file(text)).1.iter().map(|one| one.message().to_owned()).collect::<Vec<_>>();
    assert_eq!(warnings(DEPLOY), [""; 0]);
    let unused = warnings(&DEPLOY.replace("[\"api\", \"cluster\"]", "[\"cluster\"]"));
    assert_eq!(unused, ["no stage uses the credential `api`"]);
}

#[test]
fn reviewers_see_what_a_credential_signs() {
    let plan = plan(&file(DEPLOY));
    let [api, cluster] = &remarks(&plan, &plan.stages[0], &[])[..] else { panic!("two remarks") };
    assert_eq!(api, "the credential `api` (bearer) allows and signs requests to https://api.example.org");
    assert_eq!(
        cluster,
        "the credential `cluster` (kubeconfig) allows and signs requests to the server of its kubeconfig"
    );
    let phrases = plan.stages[0].permissions.entries().map(|grant| grant.phrase()).collect::<Vec<_>>();
    assert_eq!(phrases[0], "let the host sign requests with the credential `api`");
}

#[test]
fn a_stage_with_a_credential_is_external_and_its_result_is_never_cached() {
    let plan = plan(&file(DEPLOY));
    assert_eq!(plan.stages[0].effect_class(PluginCode::Component(&AnyImports)), EffectClass::External);
    assert!(
        Interface::Http
            .ways_out()
            .iter()
            .any(|way| way.opened_by() == Some(stagewright_model::Permission::Credentials))
    );
    let found = mistakes(&format!("{DEPLOY}cache = true\ninputs = ['src']\n"));
    let expected = "`deploy` can't be cached: it may send requests that the credential `api` signs";
    assert!(found.iter().any(|(_, message)| message == expected), "{found:?}");
}

fn locked(tables: &str) -> LockedPipeline {
    let plan = plan(&file(tables));
    let pin = PluginPin { digest: format!("sha256:{:0>64}", 1), wit: None, imports: Default::default() };
    LockedPipeline::of(&plan, &vec![pin; plan.stages.len()], &[])
}

/// The changes in the lock when `from` is replaced by `to`.
#[track_caller]
fn changed(from: &str, to: &str) -> Vec<String> {
    assert!(DEPLOY.contains(from), "{from}");
    let now = locked(&DEPLOY.replacen(from, to, 1));
    locked(DEPLOY).changes(&now, &Bounds::default()).iter().map(ToString::to_string).collect()
}

#[test]
fn the_lock_has_the_definition_of_each_credential_and_its_secrets() {
    let text = Lock { pipelines: [("release".to_owned(), locked(DEPLOY))].into() }.render();
    insta::assert_snapshot!(text);
    let again = Lock::parse("stagewright.lock", &text).unwrap_or_else(|errors| panic!("{}", render(&errors)));
    assert_eq!(again.pipelines["release"], locked(DEPLOY));
    for (from, to) in
        [("https://api.example.org", "https://b.test"), ("\"bearer\"", "\"basic\""), ("ca = \"ca\"\n", "")]
    {
        let edited = Lock::parse("stagewright.lock", &text.replacen(from, to, 1)).unwrap_err();
        assert!(edited.iter().any(|error| error.code() == "stagewright::lock-edited"), "{from}");
    }
}

#[test]
fn whatever_a_credential_may_do_beyond_the_lock_is_a_wider_change() {
    let hosts = DEPLOY.replace("[\"api.example.org\"]", "[\"api.example.org\", \"b.test\"]");
    let change = |now: &str| {
        let changes = locked(&hosts).changes(&locked(now), &Bounds::default());
        changes.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let two = "[\"https://api.example.org\", \"https://b.test\"]";
    let wider = hosts.replace("[\"https://api.example.org\"]", two);
    assert_eq!(change(&wider), ["+ the credential `api` may now sign requests to https://b.test"]);
    let back = locked(&wider).changes(&locked(&hosts), &Bounds::default());
    assert_eq!(back[0].to_string(), "- the credential `api` may no longer sign requests to https://b.test");
    assert_eq!(changed("ca = \"ca\"\n", "").last().unwrap(), "+ the credential `api` no longer has ca = `ca`");
    assert_eq!(
        changed("type = \"bearer\"\ntoken", "type = \"basic\"\nusername = \"u\"\npassword"),
        [
            "+ the credential `api` is now of type `basic`",
            "+ the credential `api` now has username = `u`",
            "+ the credential `api` now has password = `token`",
            "+ the credential `api` no longer has token = `token`",
        ],
    );
    let pinned = "file = \"kube\"\norigins = [\"https://10.0.0.1\"]";
    assert_eq!(
        changed("file = \"kube\"", pinned),
        ["+ the credential `cluster` may now sign requests to https://10.0.0.1"]
    );
    let open = locked(&DEPLOY.replace("file = \"kube\"", pinned)).changes(&locked(DEPLOY), &Bounds::default());
    assert_eq!(
        open[0].to_string(),
        "+ the credential `cluster` may now sign requests to whichever server its kubeconfig names"
    );
    assert!(changed("[\"api\", \"cluster\"]", "[\"api\"]").iter().all(|change| change.starts_with('-')));
}

fn beyond(policy: &str) -> Vec<(usize, String)> {
    beyond_in(DEPLOY, policy)
}

/// The lines and messages of the errors about a pipeline under a policy.
fn beyond_in(tables: &str, policy: &str) -> Vec<(usize, String)> {
    let text = file(tables);
    let policy = OperatorPolicy::parse("/etc/policy.toml", &format!("schema = 1\n{policy}")).expect("a policy");
    match policy.check(&plan(&text), "stagewright.toml", &text, &["sha256:x".to_owned()]) {
        Ok(()) => Vec::new(),
        Err(errors) => errors.iter().map(|error| (error.position().0, error.message().to_owned())).collect(),
    }
}

#[test]
fn the_policy_limits_credentials_their_origins_and_their_secrets() {
    assert_eq!(beyond("permissions.credentials = ['api', 'cluster']"), []);
    let [(line, message)] = &beyond("permissions.credentials = ['api']")[..] else { panic!("one error") };
    assert_eq!(*line, file(DEPLOY).lines().count());
    assert!(
        message.contains("let the host sign requests with the credential `cluster`, which the policy"),
        "{message}"
    );
    let of_net =
        |net: &str| beyond(&format!("permissions.net = [{net}]")).into_iter().map(|(_, text)| text).collect::<Vec<_>>();
    let unknown = "by the credential `cluster`, `deploy` may call a server that only its kubeconfig names, but the policy \
                   limits `net`";
    assert_eq!(of_net("'api.example.org'"), [unknown]);
    let called = "by the credential `api`, `deploy` may call https://api.example.org, which the policy doesn't allow";
    assert_eq!(of_net("'b.test'"), [called, unknown]);
    let sources = beyond("secret-sources = ['env']");
    assert!(matches!(&sources[..], [(_, message)] if message.contains("`ca` comes from `file:ca.pem`")), "{sources:?}");
}

const SSH: &str = r#"
[secrets.key]
from = "env:KEY"
hosts = ["10.0.0.5:22"]
[credentials.web]
type = "ssh"
key = "key"
[credentials.web.hosts.web1]
address = "deploy@10.0.0.5"
host-keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEQkmXLBoIFS0yinr54tw72j5aQrbvl4O7WjxhCCtCpy"]
[stages.deploy]
uses = "exec"
permissions = { credentials = ["web"] }
"#;

#[test]
fn hosts_over_ssh_are_pinned_and_reached_in_one_certain_way() {
    let refuses = |from: &str, to: &str, expected: &str| {
        assert!(SSH.contains(from), "{from}");
        let found = mistakes(&SSH.replacen(from, to, 1));
        assert!(matches!(&found[..], [(_, message)] if message.contains(expected)), "{from} -> {to}: {found:?}");
    };
    refuses("key = \"key\"\n", "key = \"key\"\nagent = true\n", "needs one of `key` and `agent`");
    let agent = SSH.replace("key = \"key\"", "agent = false");
    assert!(mistakes(&agent).iter().any(|(_, message)| message.contains("needs one of `key` and `agent`")));
    refuses("[\"10.0.0.5:22\"]", "[\"10.0.0.6\"]", "to `10.0.0.5:22`, which isn't among its `hosts`");
    refuses("deploy@10.0.0.5", "10.0.0.5", "`10.0.0.5` doesn't name a user");
    refuses(
        "[\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEQkmXLBoIFS0yinr54tw72j5aQrbvl4O7WjxhCCtCpy\"]",
        "[]",
        "`web1` of the credential `web` has no host keys",
    );
    refuses("ssh-ed25519 AAAA", "ssh-dss AAAA", "has the unknown type `ssh-dss`");
    let origins = SSH.replace("type = \"ssh\"", "type = \"ssh\"\norigins = [\"https://10.0.0.5:22\"]");
    assert!(
        mistakes(&origins).iter().any(|(_, message)| message.contains("has `origins`, which its type doesn't use"))
    );
    let hostless = SSH.split("[credentials.web.hosts.web1]").next().unwrap_or_default().to_owned()
        + "[stages.deploy]\nuses = 'exec'\npermissions = { credentials = ['web'] }\n";
    assert!(mistakes(&hostless).iter().any(|(_, message)| message == "the credential `web` has no `hosts`"));
}

#[test]
fn the_policy_limits_hosts_over_ssh_by_net() {
    assert_eq!(beyond_in(SSH, "permissions.net = ['tcp://10.0.0.5:22']"), []);
    let [(_, message)] = &beyond_in(SSH, "permissions.net = ['https://10.0.0.5']")[..] else { panic!("one error") };
    assert!(message.contains("by the credential `web`, `deploy` may call tcp://10.0.0.5:22"), "{message}");
}

#[test]
fn another_host_and_another_host_key_are_changes_that_widen() {
    let changed = |from: &str, to: &str| -> Vec<String> {
        assert!(SSH.contains(from), "{from}");
        let changes = locked(SSH).changes(&locked(&SSH.replacen(from, to, 1)), &Bounds::default());
        changes.iter().map(ToString::to_string).collect()
    };
    let place = "+ the credential `web` may now run commands on `web1`, root@10.0.0.5";
    assert_eq!(changed("deploy@10.0.0.5", "root@10.0.0.5"), [place]);
    let keys = changed(
        "AAAAC3NzaC1lZDI1NTE5AAAAIEQkmXLBoIFS0yinr54tw72j5aQrbvl4O7WjxhCCtCpy\"]",
        "AAAAC3NzaC1lZDI1NTE5AAAAIEQkmXLBoIFS0yinr54tw72j5aQrbvl4O7WjxhCCtCAy\"]",
    );
    assert!(keys.iter().any(|change| change.starts_with("+ the credential `web` now accepts of `web1` the key")));
    assert!(keys.iter().any(|change| change.starts_with("- the credential `web` no longer accepts of `web1` the key")));
    let login = changed("key = \"key\"\n", "agent = true\n");
    assert!(login.contains(&"+ the credential `web` no longer has key = `key`".to_owned()), "{login:?}");
    let renamed = changed("hosts.web1", "hosts.web2");
    assert!(renamed.contains(&"- the credential `web` may no longer run commands on `web1`".to_owned()), "{renamed:?}");
}

#[test]
fn a_credential_is_for_the_plugin_or_for_its_programs() {
    let text = DEPLOY.replace("[\"api\", \"cluster\"]", "[\"api:proxy\", \"cluster\", \"cluster:proxy\"]");
    let plan = plan(&file(&text));
    let granted = &plan.stages[0].permissions;
    let phrases = granted.entries().map(|grant| grant.phrase()).collect::<Vec<_>>();
    assert_eq!(phrases[0], "let the proxy sign requests of programs with the credential `api`");
    assert_eq!(
        remarks(&plan, &plan.stages[0], &[])[0],
        "the credential `api` (bearer), for programs, allows and signs requests to https://api.example.org"
    );
    let reaches = |granted| Reaches::of_programs(None, granted).all.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(reaches(granted), [""; 0], "no program is granted");
    let with_program = stagewright_model::Permissions {
        process: vec!["helm".parse().unwrap()],
        ..stagewright_model::Permissions::clone(granted)
    };
    let signed =
        ["api", "cluster"].map(|name| format!("let programs send requests that the credential `{name}` signs"));
    assert_eq!(reaches(&with_program), signed);
    // One for the plugin and one for its programs may have the same origin.
    let second = "[credentials.other]\ntype = \"bearer\"\ntoken = \"token\"\norigins = [\"api.example.org:443\"]\n[stages.deploy]";
    let both = DEPLOY.replace("[stages.deploy]", second);
    parse(&file(&both.replace("[\"api\", \"cluster\"]", "[\"api\", \"cluster\", \"other:proxy\"]")));
    let twice = both.replace("[\"api\", \"cluster\"]", "[\"api:proxy\", \"cluster\", \"other:proxy\"]");
    assert!(mistakes(&twice)[0].1.contains("both sign requests to"), "{:?}", mistakes(&twice));
}

#[test]
fn what_the_proxy_cannot_sign_is_refused() {
    let aws = "type = \"aws-sigv4\"\naccess-key-id = \"token\"\nsecret-access-key = \"token\"\nregion = \"eu-1\"\nservice = \"s3\"\n";
    let text = DEPLOY.replace("type = \"bearer\"\ntoken = \"token\"\n", aws);
    let found = mistakes(&text.replace("[\"api\",", "[\"api:proxy\","));
    let expected = "the proxy can't sign with the credential `api`: its signature covers the body, which a program sends as it goes";
    assert_eq!(found.iter().map(|(_, message)| message.as_str()).collect::<Vec<_>>(), [expected]);
    let found = mistakes(&DEPLOY.replace("[\"api\",", "[\"api:env\","));
    assert!(found[0].1.contains("has the unknown use `env`"), "{found:?}");
    let unsandboxed =
        DEPLOY.replace("[\"api\",", "[\"api:proxy\",").replace("uses = \"exec\"", "uses = \"exec\"\nsandbox = \"off\"");
    let warnings = parse(&file(&unsandboxed)).1;
    let warnings = warnings.iter().map(|one| one.message()).collect::<Vec<_>>();
    assert_eq!(warnings, ["the proxy never signs with `api`: programs of `deploy` run without a sandbox"]);
}

#[test]
fn a_policy_grants_a_use_of_a_credential_by_name() {
    let both = DEPLOY.replace("[\"api\", \"cluster\"]", "[\"api:proxy\", \"cluster\"]");
    let of_policy = |granted: &str| beyond_in(&both, &format!("permissions.credentials = [{granted}]")).len();
    assert_eq!(
        [of_policy("'api:proxy', 'cluster'"), of_policy("'api', 'cluster'"), of_policy("'api:proxy'")],
        [0, 1, 1]
    );
}
