//! git's configuration: the system's, the user's and the repository's.
//!
//! Credential helpers, headers, proxies, cookies, keys, aliases and all other commands, included files, and all keys that
//! aren't listed are left out.

mod syntax;

pub(crate) use self::syntax::parse;
use self::syntax::{Setting, quoted};
use super::value::{ValueKind, admit};

/// Commands of Git LFS. Without them, git shows its files as modified.
const LFS: [&str; 6] = [
    "git-lfs clean -- %f",
    "git-lfs smudge -- %f",
    "git-lfs smudge --skip -- %f",
    "git-lfs filter-process",
    "git-lfs filter-process --skip",
    "true",
];

const CORE: [&str; 30] = [
    "abbrev",
    "autocrlf",
    "bare",
    "bigfilethreshold",
    "checkstat",
    "commentchar",
    "commitgraph",
    "compression",
    "deltabasecachelimit",
    "eol",
    "filemode",
    "fscache",
    "ignorecase",
    "ignorestat",
    "logallrefupdates",
    "longpaths",
    "multipackindex",
    "packedgitlimit",
    "packedgitwindowsize",
    "precomposeunicode",
    "preloadindex",
    "quotepath",
    "repositoryformatversion",
    "safecrlf",
    "sparsecheckout",
    "sparsecheckoutcone",
    "splitindex",
    "symlinks",
    "trustctime",
    "untrackedcache",
];

const SSL: [&str; 8] = [
    "followredirects",
    "lowspeedlimit",
    "lowspeedtime",
    "maxrequests",
    "postbuffer",
    "sslverify",
    "sslversion",
    "version",
];

/// The copy of a file's text. It ends at a syntax error, where git would stop too.
pub(super) fn copy(text: &str) -> String {
    let mut copy = String::new();
    let mut header = String::new();
    for setting in parse(text) {
        let Some((own, line)) = kept(&setting) else { continue };
        if own != header {
            copy.push_str(&own);
            header = own;
        }
        copy.push_str(&line);
    }
    copy
}

/// The header and the line of a setting in the copy; none if it is left out.
fn kept(setting: &Setting) -> Option<(String, String)> {
    let Setting { section, subsection, key, value } = setting;
    let kind = kind(section, subsection.as_deref(), key)?;
    let subsection = match subsection {
        None => None,
        // The name of these subsections is a URL.
        Some(name) if matches!(section.as_str(), "http" | "url") => Some(admit(ValueKind::GitUrl, name)?),
        Some(name) => Some(admit(ValueKind::Text, name)?),
    };
    let header = match subsection {
        Some(name) => format!("[{section} {}]\n", quoted(&name)),
        None => format!("[{section}]\n"),
    };
    let line = match value {
        // A key without a value is true.
        None => format!("\t{key}\n"),
        Some(value) => format!("\t{key} = {}\n", quoted(&admit(kind, value)?)),
    };
    Some((header, line))
}

/// The kind of a key's value; none when the key isn't copied. Section and key are in lower case.
fn kind(section: &str, subsection: Option<&str>, key: &str) -> Option<ValueKind> {
    let word = |keys: &[&str]| keys.contains(&key).then_some(ValueKind::Word);
    let text = |keys: &[&str]| keys.contains(&key).then_some(ValueKind::Text);
    match (section, subsection) {
        ("core", None) => word(&CORE).or_else(|| text(&["attributesfile", "excludesfile", "whitespace", "worktree"])),
        ("extensions", None) => word(&[
            "compatobjectformat",
            "noop",
            "objectformat",
            "partialclone",
            "preciousobjects",
            "refstorage",
            "relativeworktrees",
            "worktreeconfig",
        ]),
        ("user" | "author" | "committer", None) => text(&["email", "name"]).or_else(|| word(&["useconfigonly"])),
        ("init", None) => text(&["defaultbranch"]).or_else(|| word(&["defaultobjectformat", "defaultrefformat"])),
        ("safe", None) => text(&["barerepository", "directory"]),
        ("remote", Some(_)) => match key {
            "url" | "pushurl" => Some(ValueKind::GitUrl),
            "fetch" | "push" => Some(ValueKind::Text),
            _ => word(&["mirror", "partialclonefilter", "promisor", "prune", "prunetags", "skipfetchall", "tagopt"]),
        },
        ("branch", Some(_)) => match key {
            "remote" | "pushremote" => Some(ValueKind::GitUrl),
            "merge" => Some(ValueKind::Text),
            _ => word(&["rebase"]),
        },
        ("submodule", Some(_)) => match key {
            "url" => Some(ValueKind::GitUrl),
            "branch" | "path" => Some(ValueKind::Text),
            "update" => Some(ValueKind::Known(&["checkout", "merge", "none", "rebase"])),
            _ => word(&["active", "fetchrecursesubmodules", "ignore", "shallow"]),
        },
        ("submodule", None) => text(&["active"]).or_else(|| word(&["fetchjobs", "recurse"])),
        ("url", Some(_)) => matches!(key, "insteadof" | "pushinsteadof").then_some(ValueKind::GitUrl),
        ("http", _) => word(&SSL).or_else(|| text(&["sslcainfo", "sslcapath"])),
        ("lfs", None) => match key {
            "url" | "pushurl" => Some(ValueKind::GitUrl),
            "fetchexclude" | "fetchinclude" => Some(ValueKind::Text),
            _ => word(&["concurrenttransfers", "repositoryformatversion", "skipdownloaderrors"]),
        },
        ("filter", Some("lfs")) => {
            ["clean", "process", "required", "smudge"].contains(&key).then_some(ValueKind::Known(&LFS))
        }
        ("remote", None) => text(&["pushdefault"]),
        ("log", None) => word(&["date", "decorate", "follow", "showsignature"]),
        ("diff", None) => word(&[
            "algorithm",
            "colormoved",
            "context",
            "indentheuristic",
            "mnemonicprefix",
            "noprefix",
            "renamelimit",
            "renames",
            "submodule",
        ]),
        ("merge", None) => word(&["conflictstyle", "directoryrenames", "ff", "renamelimit", "renames"]),
        ("fetch" | "pull" | "push" | "rebase", None) => word(&[
            "autosetupremote",
            "autosquash",
            "autostash",
            "default",
            "ff",
            "followtags",
            "parallel",
            "prune",
            "prunetags",
            "rebase",
            "recursesubmodules",
            "updaterefs",
        ]),
        ("advice" | "color" | "column" | "feature" | "gc" | "index" | "maintenance" | "pack" | "protocol", None) => {
            Some(ValueKind::Scalar)
        }
        ("protocol", Some(_)) => word(&["allow"]),
        ("status" | "tag" | "versionsort", None) => word(&["showuntrackedfiles", "sort", "submodulesummary"]),
        _ => None,
    }
}
