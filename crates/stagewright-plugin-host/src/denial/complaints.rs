//! Finds in a failed program's output what it complains that it couldn't read, write or start.
//!
//! The wordings are those of the C library in the C locale, as shells, coreutils, Perl, Ruby and Java repeat it, and of
//! Python, Node, Go and Rust. A complaint names candidates only. Nothing here knows whether a file exists: `refusals`
//! checks that, so a line that merely looks like a complaint leads to nothing.

use std::collections::VecDeque;

/// The most bytes at the end of each stream that are kept.
const KEPT: usize = 16 << 10;
/// The most lines at the end of the output that are examined.
const LINES: usize = 200;
/// The most bytes of a line that is examined, and of a name in it.
const LINE: usize = 4096;
/// The most complaints of one program.
const COMPLAINTS: usize = 32;

/// What a program couldn't do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Complaint {
    /// A file, folder or program doesn't exist.
    Missing,
    /// Permission was denied.
    Denied,
    /// A library can't be loaded from a folder without programs.
    Unloadable,
    /// The file system is read-only.
    ReadOnly,
}

/// A complaint, and the names that it may be about, the likeliest first.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) complaint: Complaint,
    pub(super) names: Vec<String>,
}

/// The end of a program's output.
#[derive(Debug, Default)]
pub(crate) struct OutputTail(VecDeque<u8>);

impl OutputTail {
    pub(crate) fn push(&mut self, data: &[u8]) {
        let data = &data[data.len().saturating_sub(KEPT)..];
        self.0.drain(..(self.0.len() + data.len()).saturating_sub(KEPT));
        self.0.extend(data);
    }

    pub(crate) fn text(&self) -> String {
        let (one, other) = self.0.as_slices();
        String::from_utf8_lossy(&[one, other].concat()).into_owned()
    }
}

/// Words that introduce a complaint, in lower case. The first one that a line has decides.
const PHRASES: [(&str, Complaint); 20] = [
    ("failed to map segment from shared object", Complaint::Unloadable),
    ("read-only file system", Complaint::ReadOnly),
    ("erofs", Complaint::ReadOnly),
    ("permission denied", Complaint::Denied),
    ("eacces", Complaint::Denied),
    ("accessdeniedexception", Complaint::Denied),
    ("no such file or directory", Complaint::Missing),
    ("no such file", Complaint::Missing),
    ("enoent", Complaint::Missing),
    ("nosuchfileexception", Complaint::Missing),
    ("cannot find module", Complaint::Missing),
    ("cannot find package", Complaint::Missing),
    ("no module named", Complaint::Missing),
    ("can't cd to", Complaint::Missing),
    ("no rule to make target", Complaint::Missing),
    ("could not find", Complaint::Missing),
    ("required file not found", Complaint::Missing),
    ("executable file not found", Complaint::Missing),
    ("command not found", Complaint::Missing),
    ("not found", Complaint::Missing),
];

/// Complaints that don't name the file that they are about.
const UNNAMED: [(&str, &[&str]); 4] = [
    ("no makefile found", &["Makefile", "makefile", "GNUmakefile"]),
    ("go.mod file not found", &["go.mod"]),
    ("no targets specified in the manifest", &["src"]),
    ("not a git repository", &[".git"]),
];

/// Words before the name of a file, in lower case.
const VERBS: [&str; 24] = [
    "cannot create",
    "cannot open",
    "cannot execute",
    "can't create",
    "can't open",
    "could not open",
    "unable to create",
    "failed to open",
    "fork/exec",
    "exec",
    "openat",
    "open",
    "mkdirat",
    "mkdir",
    "unlinkat",
    "unlink",
    "rename",
    "remove",
    "chdir",
    "lstat",
    "stat",
    "spawn",
    "create",
    "writing",
];

/// Quotation marks that begin a text, and those that end it.
const QUOTES: [(char, &[char]); 5] =
    [('\'', &['\'']), ('"', &['"']), ('`', &['`', '\'']), ('‘', &['’']), ('“', &['”'])];

/// Words of messages about failed connections and names, in lower case.
const OF_NETWORKS: [&str; 10] = [
    "403",
    "connect",
    "proxy",
    "tunnel",
    "resolve",
    "resolution",
    "unreachable",
    "enotfound",
    "eai_again",
    "not known",
];

/// Words of messages about certificates that no known authority has issued, in lower case.
const OF_CERTIFICATES: [&str; 3] = ["certificate", "self_signed_cert", "issuer_cert"];

/// Whether a program's output may be about a certificate.
pub(super) fn mentions_certificate(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    OF_CERTIFICATES.iter().any(|word| lower.contains(word))
}

/// Whether a program's output may be about a failed connection.
pub(super) fn mentions_network(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    OF_NETWORKS.iter().any(|word| lower.contains(word))
}

/// The complaints in the last lines of a program's output.
pub(super) fn complaints(text: &str) -> Vec<Named> {
    let lines = text.lines().map(str::trim_end).collect::<Vec<_>>();
    let first = lines.len().saturating_sub(LINES);
    let mut found: Vec<Named> = Vec::new();
    for at in (first..lines.len()).filter(|&at| lines[at].len() <= LINE) {
        found.extend(complaint(lines[at], &lines[first..at]).filter(|complaint| !found.contains(complaint)));
    }
    // The last complaints are the likeliest reason of the failure.
    found.split_off(found.len().saturating_sub(COMPLAINTS))
}

/// `before`: the lines above, in which a chain of causes names what it is about.
fn complaint(line: &str, before: &[&str]) -> Option<Named> {
    let lower = line.to_ascii_lowercase();
    // Rust's `Debug` of an error names no file, and quotes other words.
    if lower.contains("os { code") {
        return None;
    }
    if let Some((_, names)) = UNNAMED.iter().find(|(phrase, _)| lower.contains(phrase)) {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        return Some(Named { complaint: Complaint::Missing, names });
    }
    let (phrase, mut complaint) = PHRASES.iter().find(|(phrase, _)| lower.contains(phrase)).copied()?;
    let start = lower.find(phrase)?;
    let (ahead, behind) = (&line[..start], &line[start + phrase.len()..]);
    if lower.contains("enoent: no such file or directory, mkdir '") {
        // Node's recursive `mkdir` takes a folder that it can't create for one whose parent is missing.
        complaint = Complaint::ReadOnly;
    }
    let mut names = quoted(line);
    if complaint == Complaint::ReadOnly {
        // What is moved or copied comes before the path that is written.
        names.reverse();
    }
    names.extend(if phrase.ends_with(" to") { name_in(behind) } else { unquoted_after(behind) });
    names.extend(unquoted_before(ahead));
    if names.is_empty() && is_only_cause(ahead) {
        names = before.iter().rev().take(4).map(|line| quoted(line)).find(|names| !names.is_empty())?;
    }
    if phrase.contains("module") || phrase.contains("package") {
        names = names.iter().flat_map(|name| modules(name)).collect();
    }
    let is_name = |name: &String| {
        let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
        // As in `code: 'EROFS'`.
        let is_phrase = PHRASES.iter().any(|(phrase, _)| name.eq_ignore_ascii_case(phrase));
        !is_number && !is_phrase && name.len() <= LINE && !name.chars().any(char::is_control)
    };
    names.retain(is_name);
    (!names.is_empty()).then_some(Named { complaint, names })
}

/// The texts in quotation marks, in their order.
fn quoted(line: &str) -> Vec<String> {
    let mut texts = Vec::new();
    let (mut rest, mut before) = (line, ' ');
    while let Some(first) = rest.chars().next() {
        let after = &rest[first.len_utf8()..];
        // The apostrophe of a contraction doesn't begin a quotation.
        let may_begin = before.is_whitespace() || "([{:=,".contains(before);
        let closing = QUOTES.iter().find(|(opening, _)| *opening == first && may_begin).map(|(_, closing)| *closing);
        (rest, before) = match closing.and_then(|closing| after.split_once(closing)) {
            Some((text, after)) => {
                texts.extend((!text.is_empty()).then(|| text.to_owned()));
                (after, first)
            }
            None => (after, first),
        };
    }
    texts
}

/// The name in front of a phrase, as in `cat: NAME: ` and `open NAME: `. The program that complains comes first, and isn't
/// what the complaint is about.
fn unquoted_before(ahead: &str) -> Vec<String> {
    let ahead = ahead.trim_end_matches([' ', '(', ':', '-']);
    let parts = ahead.split(": ").map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>();
    let skipped = usize::from(parts.len() > 1);
    parts.iter().skip(skipped).rev().take(2).filter_map(|part| name_in(part)).collect()
}

/// The name after a phrase, as in `command not found: NAME` and `… @ rb_sysopen - NAME (Errno::ENOENT)`.
fn unquoted_after(behind: &str) -> Option<String> {
    let behind =
        behind.rsplit_once(" - ").map_or_else(|| behind.trim_start().strip_prefix(": "), |(_, name)| Some(name));
    let name = behind?.split_once(" (").map_or(behind?, |(name, _)| name);
    name_in(name.trim_end_matches('.'))
}

/// The name in a part of a line, without the verb in front of it. A sentence isn't a name.
fn name_in(part: &str) -> Option<String> {
    let lower = part.to_ascii_lowercase();
    let verb = VERBS
        .iter()
        .find(|&&verb| lower.strip_prefix(verb).is_some_and(|rest| rest.is_empty() || rest.starts_with(' ')));
    let name = verb.map_or(part, |verb| &part[verb.len()..]).trim().trim_matches(['"', '\'', '`']);
    (!name.is_empty() && !name.contains(char::is_whitespace)).then(|| name.to_owned())
}

/// Whether a phrase is a whole cause, as in `Caused by:` and below it `  No such file or directory (os error 2)`.
fn is_only_cause(ahead: &str) -> bool {
    ahead.trim().trim_end_matches(':').bytes().all(|byte| byte.is_ascii_digit())
}

/// The files that may hold a module of Node or Python.
fn modules(name: &str) -> Vec<String> {
    let is_path = name.starts_with(['.', '/']);
    let package = (!is_path && !name.ends_with(".js")).then(|| format!("node_modules/{name}"));
    let files = ["", ".js", ".json", ".mjs", ".cjs", ".py"].map(|extension| format!("{name}{extension}"));
    let python = (!is_path && !name.contains('/')).then(|| name.replace('.', "/"));
    let python =
        python.into_iter().flat_map(|path| [format!("{path}.py"), format!("src/{path}.py"), format!("src/{path}")]);
    package.into_iter().chain(files).chain(python).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(line: &str) -> Option<(Complaint, String)> {
        complaints(line)
            .into_iter()
            .next()
            .and_then(|Named { complaint, names }| Some((complaint, names.first()?.clone())))
    }

    #[test]
    fn each_wording_names_its_file() {
        for (line, complaint, name) in [
            ("cat: src/words.txt: No such file or directory", Complaint::Missing, "src/words.txt"),
            ("sh: 1: ./tool.sh: Permission denied", Complaint::Denied, "./tool.sh"),
            ("bash: line 1: ./tool.sh: Permission denied", Complaint::Denied, "./tool.sh"),
            ("sh: 1: cargo: not found", Complaint::Missing, "cargo"),
            ("bash: line 1: cargo: command not found", Complaint::Missing, "cargo"),
            ("zsh:1: command not found: cargo", Complaint::Missing, "cargo"),
            ("/usr/bin/env: ‘node’: No such file or directory", Complaint::Missing, "node"),
            ("env: 'node': No such file or directory", Complaint::Missing, "node"),
            ("sh: 1: cannot create out.txt: Read-only file system", Complaint::ReadOnly, "out.txt"),
            ("sh: 1: cd: can't cd to src", Complaint::Missing, "src"),
            ("sh: 0: cannot open run.sh: No such file", Complaint::Missing, "run.sh"),
            ("touch: cannot touch 'out.txt': Read-only file system", Complaint::ReadOnly, "out.txt"),
            ("bash: ./x: cannot execute: required file not found", Complaint::Missing, "./x"),
            ("mv: cannot move 'a' to 'out/a': Read-only file system", Complaint::ReadOnly, "out/a"),
            ("tar: out.tar: Cannot open: Read-only file system", Complaint::ReadOnly, "out.tar"),
            ("FileNotFoundError: [Errno 2] No such file or directory: 'a b.txt'", Complaint::Missing, "a b.txt"),
            ("OSError: [Errno 30] Read-only file system: 'out'", Complaint::ReadOnly, "out"),
            ("python3: can't open file '/w/a.py': [Errno 2] No such file or directory", Complaint::Missing, "/w/a.py"),
            ("Error: ENOENT: no such file or directory, open 'a.json'", Complaint::Missing, "a.json"),
            ("Error: EROFS: read-only file system, mkdir 'dist'", Complaint::ReadOnly, "dist"),
            ("npm error enoent ENOENT: no such file or directory, mkdir '/w/dist/a'", Complaint::ReadOnly, "/w/dist/a"),
            ("Error: spawn ./tool.sh EACCES", Complaint::Denied, "./tool.sh"),
            ("open words.txt: no such file or directory", Complaint::Missing, "words.txt"),
            ("fork/exec ./tool.sh: permission denied", Complaint::Denied, "./tool.sh"),
            (r#"exec: "cargo": executable file not found in $PATH"#, Complaint::Missing, "cargo"),
            ("error: could not find `Cargo.toml` in `/w` or any parent directory", Complaint::Missing, "Cargo.toml"),
            ("error: couldn't read `src/a.rs`: No such file or directory (os error 2)", Complaint::Missing, "src/a.rs"),
            ("java.io.FileNotFoundException: out.txt (Read-only file system)", Complaint::ReadOnly, "out.txt"),
            ("No such file or directory @ rb_sysopen - a.txt (Errno::ENOENT)", Complaint::Missing, "a.txt"),
            ("make: *** No rule to make target 'a.c', needed by 'a'.  Stop.", Complaint::Missing, "a.c"),
            ("main.c:1:10: fatal error: util.h: No such file or directory", Complaint::Missing, "util.h"),
            ("fatal: not a git repository (or any of the parent directories): .git", Complaint::Missing, ".git"),
        ] {
            assert_eq!(named(line), Some((complaint, name.to_owned())), "{line}");
        }
    }

    #[test]
    fn a_module_may_be_in_several_files() {
        let names = &complaints("Error: Cannot find module './lib/x'")[0].names;
        assert!(names.iter().any(|name| name == "./lib/x.js"), "{names:?}");
    }

    #[test]
    fn a_chain_of_causes_is_about_what_the_line_above_names() {
        let cargo = "error: failed to write `/w/Cargo.lock`\n\nCaused by:\n  Read-only file system (os error 30)";
        assert_eq!(named(cargo), Some((Complaint::ReadOnly, "/w/Cargo.lock".to_owned())));
        let panic = "thread 'main' panicked at src/main.rs:3:5:\ncalled `Result::unwrap()` on an `Err` value: Os { code: 30, \
                     kind: ReadOnlyFilesystem, message: \"Read-only file system\" }";
        assert_eq!(complaints(panic), [], "{panic}");
    }

    #[test]
    fn other_lines_are_no_complaints() {
        for line in
            ["", "error: expected `;`", "404 Not Found", "1 not found", "  code: 'EROFS',", "warning: don't do 'this'"]
        {
            assert_eq!(complaints(line), [], "{line}");
        }
    }

    #[test]
    fn only_the_end_of_endless_output_is_kept() {
        let mut tail = OutputTail::default();
        for number in 0..10_000 {
            tail.push(format!("cat: {number}.txt: No such file or directory\n").as_bytes());
        }
        tail.push(&[b'x'; 3 * KEPT]);
        assert_eq!(tail.text().len(), KEPT);
        let many = (0..10_000).map(|number| format!("cat: {number}.txt: No such file or directory\n"));
        let found = complaints(&many.collect::<String>());
        assert_eq!((found.len(), found[31].names[0].as_str()), (COMPLAINTS, "9999.txt"));
        assert_eq!(complaints(&format!("cat: {}: No such file or directory", "x".repeat(LINE))), []);
    }
}
