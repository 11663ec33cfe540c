//! Output of a stage is shown as text: it can't command terminals, CI systems or report readers.

use super::{pipeline, repository};

/// Control sequences of terminals, commands of GitHub, and the end of a section of XML.
const EVIL: &str =
    r"\u001b[2J\u001b]0;owned\u0007\u009b31m\rover\u0008\u202eevil\n::set-output name=x::y\n##[command]z\n]]><x/>&";

#[test]
fn no_command_comes_through() {
    let places = ["log", "field", "progress", "summary", "problem", "output", "failure"];
    let actions = places.map(|place| format!(r#"do = "say", place = "{place}", text = "{EVIL}""#));
    let environment = repository();
    environment.write("stagewright.toml", &pipeline(&actions.each_ref().map(String::as_str), "", ""));
    let commands: [&[&str]; 7] = [
        &["run"],
        &["run", "--format", "github"],
        &["run", "--format", "json"],
        &["show", "latest"],
        &["show", "latest", "--format", "github"],
        &["logs", "latest", "stranger"],
        &["run", "--junit", "report.xml"],
    ];
    for command in commands {
        let ended = environment.run(command);
        assert!(ended.code == 0 || ended.code == 1, "{command:?} {}: {}", ended.code, ended.stderr);
        for shown in [&ended.stdout, &ended.stderr] {
            let control = |c: char| (c.is_control() && c != '\n' && c != '\t') || c == '\u{202e}';
            let json = command.contains(&"json");
            assert!(
                !shown.contains(control) || json && !shown.contains(['\u{1b}', '\r', '\u{7}', '\u{8}']),
                "{command:?}: {shown:?}"
            );
            let taken = |line: &str| line.starts_with("::set-output") || line.contains("##[command]");
            assert!(!command.contains(&"github") || !shown.lines().any(taken), "{command:?}: {shown}");
        }
    }
    let report = environment.read("report.xml");
    assert!(!report.contains("<x/>") && report.contains("evil"), "{report}");
    assert!(!report.contains(['\u{1b}', '\u{7}', '\u{8}']), "{report:?}");
}
