//! Requests of programs that the proxy signs with a credential.

use super::registry::Registry;
use super::{TOKEN, carried};
use crate::environment::{TestEnvironment, outcomes};

/// A repository whose engine trusts the server, with a credential for it.
fn environment(server: &Registry, stages: &str) -> TestEnvironment {
    let port = server.port;
    let text = format!(
        "schema = 1\n[pipeline]\nname = \"signed\"\n[secrets.token]\nfrom = \"env:API_TOKEN\"\nhosts = [\"localhost:{port}\"]\n\
         [credentials.api]\ntype = \"bearer\"\ntoken = \"token\"\norigins = [\"ORIGIN\"]\n{stages}"
    );
    let mut environment = TestEnvironment::with_pipeline(&text.replace("ORIGIN", &server.origin()));
    let authority = environment.root().with_file_name("authority.pem");
    std::fs::write(&authority, &server.authority).expect("a file");
    environment.set("SSL_CERT_FILE", &authority.display().to_string());
    environment.set("API_TOKEN", TOKEN);
    environment
}

#[test]
fn programs_use_a_credential_without_having_it() {
    let server = Registry::start("Bearer hunter2hunter2hunter2");
    server.serve("/deployments/web", format!("changed with {TOKEN}"));
    let other = Registry::start("Bearer hunter2hunter2hunter2");
    let stage = r#"
        [stages.apply]
        uses = "command"
        [stages.apply.with]
        run = '''
        curl --silent --fail --request PATCH --data x --header 'Authorization: Bearer mine' ORIGIN/deployments/web; echo
        curl --silent --insecure OTHER/deployments/web || echo "the other host is closed"
        grep -rIls 'hunter2hunte[r]2' /proc/[0-9]*/environ /proc/[0-9]*/cmdline /run /tmp "$HOME" . && echo "found it"
        echo "looked for it"
        '''
        [stages.apply.permissions]
        process = ["sh", "curl"]
        credentials = ["api:proxy"]
    "#;
    let environment = environment(&server, &stage.replace("OTHER", &other.origin()));
    let (code, events) = environment.events(&["run"]);
    let log = environment.run(&["logs", "latest", "apply"]).exits(0).stdout;
    for words in ["changed with ***", "the other host is closed", "looked for it"] {
        assert!(log.contains(words), "{words} is missing in {log}");
    }
    assert!(!log.contains("found it") && !log.contains(TOKEN), "{log}");
    assert_eq!(code, 0, "{log}");
    assert_eq!((carried(&server.asked()), other.asked().len()), (vec![true], 0));
    // A program may have changed something, so that its start is announced.
    assert!(events.iter().any(|event| event["type"] == "effect-intended" && event["what"] == "run sh"), "{events:#?}");
}

#[test]
fn a_rehearsal_starts_no_program_with_a_credential_that_it_does_not_grant() {
    let server = Registry::start("Bearer hunter2hunter2hunter2");
    server.serve("/with", "content");
    let stage = |name: &str, rehearse: &str| {
        format!(
            "[stages.{name}]\nuses = \"command\"\nwith = {{ argv = [\"curl\", \"--silent\", \"--fail\", \"ORIGIN/{name}\"] }}\n\
             permissions = {{ process = [\"curl\"], credentials = [\"api:proxy\"] }}\n{rehearse}"
        )
    };
    let granted = "rehearse = { permissions = { credentials = [\"api:proxy\"] } }\n";
    let environment = environment(&server, &(stage("with", granted) + &stage("without", "")));
    let (_, events) = environment.events(&["run", "--rehearse"]);
    let expected = [("with", "succeeded"), ("without", "rehearsed")];
    assert_eq!(outcomes(&events), expected.map(|(stage, end)| (stage.to_owned(), end.to_owned())).into());
    assert_eq!(carried(&server.asked()), [true]);
    let shown = environment.run(&["run", "--rehearse"]).exits(0).stdout;
    assert!(shown.contains("signed with the credential `api`"), "{shown}");
}
