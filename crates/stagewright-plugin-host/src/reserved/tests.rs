use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};

use super::*;

struct Fixture {
    folder: tempfile::TempDir,
    root: PathBuf,
}

impl Fixture {
    fn new(folders: &[&str]) -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().canonicalize().unwrap();
        let root = top.join("w");
        folders.iter().for_each(|path| fs::create_dir_all(root.join(path)).unwrap());
        Fixture { folder, root }
    }

    fn now(&self, purpose: Purpose, path: impl AsRef<Path>) -> io::Result<Reservations> {
        let claim = Claim { purpose, path: self.root.join(path) };
        Reserved::new(&self.root, vec![claim], None).now()
    }
}

fn path(text: &str) -> WorkspacePath {
    WorkspacePath::parse(text).unwrap()
}

/// Reserved paths, and paths that lead to them.
fn spots(now: &Reservations) -> (Vec<&str>, Vec<&str>) {
    let shown = |whole| now.spots().iter().filter(move |spot| spot.whole == whole).map(|spot| spot.path.shown());
    (shown(true).collect(), shown(false).collect())
}

#[test]
fn a_claim_reserves_its_real_path_and_everything_that_leads_there() {
    let fixture = Fixture::new(&["sub/st", "by", "var"]);
    let links = [("../sub", "var/link"), ("var/link/st", "chain"), ("../w/sub/st", "around")];
    links.iter().for_each(|(target, link)| symlink(target, fixture.root.join(link)).unwrap());
    let found = |spelled: &str| {
        let now = fixture.now(Purpose::State, spelled).unwrap();
        let (whole, way) = spots(&now);
        assert_eq!(whole, ["sub/st"], "{spelled}");
        way.join(" ")
    };
    assert_eq!(found("sub/st"), "sub");
    assert_eq!(found("sub/./st/"), "sub");
    assert_eq!(found("by/../sub/st"), "by sub");
    assert_eq!(found("var/link/st"), "sub var var/link");
    assert_eq!(found("chain"), "chain sub var var/link");
    assert_eq!(found("around"), "around sub");
    symlink(fixture.root.join("sub"), fixture.folder.path().join("outside")).unwrap();
    assert_eq!(found("../outside/st"), "sub");
}

#[test]
fn a_missing_path_is_reserved() {
    let fixture = Fixture::new(&["sub"]);
    let now = fixture.now(Purpose::Cache, "sub/new/cache").unwrap();
    assert_eq!(spots(&now).0, ["sub/new/cache"]);
    assert!(now.over(&path("sub/new/cache/x")).is_some() && now.over(&path("sub/new")).is_none());
    assert!(now.below(&path("sub")).is_some() && now.below(&path("sub/other")).is_none());
}

#[test]
fn a_reserved_folder_is_recognised_by_device_and_inode() {
    let fixture = Fixture::new(&["st", "other"]);
    let now = fixture.now(Purpose::State, "st").unwrap();
    let identity = |path: &str| fs::metadata(fixture.root.join(path)).map(|found| (found.dev(), found.ino())).unwrap();
    assert_eq!(now.at(identity("st")).map(|spot| spot.purpose), Some(Purpose::State));
    assert_eq!(now.at(identity("other")), None);
}

#[test]
fn a_claim_outside_of_the_workspace_is_ignored_and_one_that_contains_it_is_refused() {
    let fixture = Fixture::new(&["sub"]);
    assert_eq!(fixture.now(Purpose::State, "../beside").unwrap().spots(), []);
    for above in [".", "..", "sub/..", "sub/../.."] {
        let error = fixture.now(Purpose::State, above).unwrap_err().to_string();
        assert!(error.contains("contains the workspace"), "{above}: {error}");
    }
    symlink("loop", fixture.root.join("loop")).unwrap();
    assert!(fixture.now(Purpose::State, "loop/st").unwrap_err().to_string().contains("too many links"));
}

#[test]
fn the_guard_refuses_paths_in_and_around_reserved_ones() {
    let fixture = Fixture::new(&["sub/st", ".git", "out"]);
    let claims = vec![
        Claim { purpose: Purpose::State, path: fixture.root.join("sub/st") },
        Claim { purpose: Purpose::Hooks, path: fixture.root.join(".hooks") },
    ];
    let guard = Reserved::new(&fixture.root, claims, None).guard().unwrap();
    for refused in ["sub/st", "sub/st/x", "sub", ".hooks/pre-push", "out/.git", "out/.GIT/config", "../x"] {
        assert!(guard(refused).is_some(), "{refused}");
    }
    for fine in ["out", "out/x", "sub/other", ".hooks2"] {
        assert_eq!(guard(fine), None, "{fine}");
    }
}

#[test]
fn nested_repositories_are_reserved_unless_a_stage_created_them() {
    let fixture = Fixture::new(&["vendor/x/.git", "bare/objects", "bare/refs", "src", "st"]);
    fs::write(fixture.root.join("bare/HEAD"), "").unwrap();
    fs::create_dir_all(fixture.root.join("sub")).unwrap();
    fs::write(fixture.root.join("sub/.git"), "gitdir: ../.git/modules/sub\n").unwrap();
    symlink("../vendor", fixture.root.join("src/link")).unwrap();
    let record = fixture.folder.path().join("record.json");
    let (none, all, git) = (Reservations::default(), [path(".")], UserGit::default());
    let shown = |found: Result<Vec<String>, SearchError>| found.unwrap().join(" ");
    let reserved = |nested: &mut NestedRepositories| {
        let claims = nested.before(&fixture.root, &all, &none, &git).unwrap();
        let of_git = claims.iter().filter(|claim| claim.purpose == Purpose::Git);
        let paths = of_git.map(|claim| claim.path.strip_prefix(&fixture.root).unwrap().to_str().unwrap());
        let mut paths: Vec<_> = paths.filter(|path| !path.contains("modules")).collect();
        paths.sort_unstable();
        paths.join(" ")
    };
    let mut nested = NestedRepositories::remembered(Some(record.clone()));
    assert_eq!(reserved(&mut nested), "bare sub/.git vendor/x/.git");
    assert_eq!(shown(nested.after(&fixture.root, &all, &none)), "");
    fs::create_dir_all(fixture.root.join("src/.git")).unwrap();
    assert_eq!(shown(nested.after(&fixture.root, &all, &none)), "src/.git");
    assert_eq!(shown(nested.after(&fixture.root, &all, &none)), "", "returned once");
    // A later process reserves the same ones, until the user replaces one that a stage created.
    let mut later = NestedRepositories::remembered(Some(record.clone()));
    assert_eq!(reserved(&mut later), "bare sub/.git vendor/x/.git");
    fs::rename(fixture.root.join("src/.git"), fixture.root.join("st/kept")).unwrap();
    fs::create_dir_all(fixture.root.join("src/.git")).unwrap();
    let mut latest = NestedRepositories::remembered(Some(record));
    assert_eq!(reserved(&mut latest), "bare src/.git sub/.git vendor/x/.git");
}

/// A clone with hooks of its own, and a repository without a working tree.
fn with_repositories() -> Fixture {
    let fixture =
        Fixture::new(&["vendor/x/.git", "vendor/x/.husky", "vendor/x/src", "bare/objects", "bare/refs", "bare/hooks"]);
    fs::write(fixture.root.join("vendor/x/.git/config"), "[core]\n\thooksPath = .husky\n").unwrap();
    fs::write(fixture.root.join("bare/HEAD"), "").unwrap();
    fixture
}

#[test]
fn the_guard_refuses_hooks_of_nested_repositories() {
    let fixture = with_repositories();
    let guard = Reserved::new(&fixture.root, Vec::new(), None).guard().unwrap();
    for refused in
        ["vendor/x/.husky/pre-push", "vendor/x/.husky/_/x", "vendor/x/.husky", "bare/hooks/pre-receive", "bare/config"]
    {
        assert!(guard(refused).is_some(), "{refused}");
    }
    for fine in ["vendor/x/src/a", "vendor/x/own", "vendor/.husky/x", "bar"] {
        assert_eq!(guard(fine), None, "{fine}");
    }
}

#[test]
fn repositories_are_found_in_and_around_granted_folders() {
    let fixture = with_repositories();
    let found = |folder: &str| {
        let now = Reserved::new(&fixture.root, Vec::new(), None).of(&fixture.root, &[path(folder)]).unwrap();
        spots(&now).0.join(" ")
    };
    assert_eq!(found("."), "bare vendor/x/.git vendor/x/.husky");
    assert_eq!(found("vendor"), "vendor/x/.git vendor/x/.husky");
    assert_eq!(found("vendor/x/src/new"), "vendor/x/.git vendor/x/.husky");
    assert_eq!(found("bare/hooks"), "bare");
    assert_eq!(found("other"), "");
    fs::remove_dir(fixture.root.join("bare/refs")).unwrap();
    assert_eq!((found("bare"), found("bare/hooks")), ("bare".to_owned(), "bare".to_owned()), "references in a table");
}

#[test]
fn paths_in_a_closed_folder_are_no_separate_spots() {
    let fixture = Fixture::new(&[".git/hooks", "githooks"]);
    symlink("../../githooks", fixture.root.join(".git/hooks/more")).unwrap();
    let claims = [(Purpose::Git, ".git"), (Purpose::Hooks, ".git/hooks/more"), (Purpose::Config, ".git/included")];
    let claims = claims.map(|(purpose, path)| Claim { purpose, path: fixture.root.join(path) });
    let now = Reserved::new(&fixture.root, claims.to_vec(), None).now().unwrap();
    assert_eq!(spots(&now), (vec![".git", "githooks"], vec![]));
}

/// A stage that may write the git directory can make a link there, or an include, that leads to the policy.
#[test]
fn what_leads_to_the_policy_from_git_opens_nothing_of_it() {
    let fixture = Fixture::new(&["ops"]);
    fs::write(fixture.root.join("ops/policy.toml"), "").unwrap();
    for other in [Purpose::Settings, Purpose::Hooks, Purpose::Program, Purpose::Config] {
        for purposes in [[Purpose::Policy, other], [other, Purpose::Policy]] {
            let claims = purposes.map(|purpose| Claim { purpose, path: fixture.root.join("ops/policy.toml") });
            let now = Reserved::new(&fixture.root, claims.to_vec(), None).now().unwrap();
            let whole: Vec<_> = now.spots().iter().filter(|spot| spot.whole).map(|spot| spot.purpose).collect();
            assert_eq!(whole, [Purpose::Policy], "{purposes:?}");
        }
    }
}

#[test]
fn paths_that_are_not_utf8_are_reserved() {
    use std::os::unix::ffi::OsStrExt as _;

    let fixture = Fixture::new(&["a"]);
    let odd = PathBuf::from(std::ffi::OsStr::from_bytes(b"a/\xff"));
    fs::create_dir_all(fixture.root.join(&odd).join("x/.git")).unwrap();
    let now = Reserved::new(&fixture.root, Vec::new(), None).of(&fixture.root, &[path(".")]).unwrap();
    let unnamed: Vec<_> = now.unnamed().iter().map(|spot| (spot.path.clone(), spot.whole)).collect();
    assert_eq!(unnamed, [(odd.clone(), false), (odd.join("x"), false), (odd.join("x/.git"), true)]);
    assert_eq!(spots(&now), (vec![], vec!["a"]));
}
