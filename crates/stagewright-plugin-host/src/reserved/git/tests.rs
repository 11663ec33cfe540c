use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;

use super::*;

struct Fixture {
    folder: tempfile::TempDir,
    root: PathBuf,
}

impl Fixture {
    fn new(files: &[(&str, &str)]) -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap().join("w");
        let fixture = Fixture { folder, root };
        fixture.write(".git/HEAD", "");
        files.iter().for_each(|(path, text)| fixture.write(path, text));
        fixture
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn link(&self, target: &str, path: &str) {
        fs::create_dir_all(self.root.join(path).parent().unwrap()).unwrap();
        symlink(target, self.root.join(path)).unwrap();
    }

    /// The claims in the workspace for one purpose, as they are spelled.
    fn claims(&self, purpose: Purpose, environment: &[(&str, &str)]) -> Vec<String> {
        let home = self.root.parent().unwrap().display().to_string();
        let expanded = |value: &str| value.replace('@', &home);
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), expanded(value))).collect();
        let git = UserGit::read(&environment).unwrap();
        let own = git.repository(&self.root, &self.root.join(".git")).unwrap();
        let all = own.iter().chain(git.claims()).filter(|claim| claim.purpose == purpose);
        let inside = all.filter_map(|claim| claim.path.strip_prefix(&self.root).ok());
        inside.map(|path| path.display().to_string()).collect()
    }
}

#[test]
fn files_are_included_regardless_of_conditions() {
    let fixture = Fixture::new(&[
        (".git/config", "[includeIf \"onbranch:never\"]\n\tpath = more\n[include]\n\tpath = ../self\n"),
        (".git/more", "[includeIf \"gitdir:/nowhere/\"]\n\tpath = ../conf/even-more\n"),
        ("conf/even-more", "[core]\n\thooksPath = deep\n"),
        ("self", "[include]\n\tpath = self\n[core]\n\thooksPath = looped\n"),
        ("../.gitconfig", "[includeIf \"gitdir:~/w/\"]\n\tpath = w/work\n"),
        ("work", "[core]\n\thooksPath = ~/w/user\n"),
    ]);
    assert_eq!(fixture.claims(Purpose::Hooks, &[("HOME", "@")]), ["deep", "looped", "user"]);
    let included = fixture.claims(Purpose::Config, &[("HOME", "@")]);
    assert!(["work", ".git/../conf/even-more"].iter().all(|path| included.iter().any(|found| found == path)));
}

#[test]
fn too_many_included_files_are_an_error() {
    let fixture = Fixture::new(&[]);
    let includes: String = (0..300).map(|number| format!("[include]\n\tpath = {number}\n")).collect();
    fixture.write(".git/config", &includes);
    let error = UserGit::default().repository(&fixture.root, &fixture.root.join(".git")).unwrap_err();
    assert!(error.to_string().contains("has more than 256 files"), "{error}");
}

#[test]
fn submodules_and_linked_working_trees_have_hooks_of_their_own() {
    let fixture = Fixture::new(&[
        (".git/config", "[extensions]\n\tworktreeConfig = true\n[core]\n\thooksPath = .all\n"),
        (".git/config.worktree", "[core]\n\thooksPath = .own\n"),
        (".git/worktrees/wt/gitdir", "@/w/wt/.git\n"),
        (".git/worktrees/wt/config.worktree", "[core]\n\thooksPath = .hk\n"),
        ("wt/.git", "gitdir: ../.git/worktrees/wt\n"),
        (".git/modules/a/b/HEAD", ""),
        (".git/modules/a/b/config", "[core]\n\tworktree = ../../../../sub\n\thooksPath = .h\n"),
        (".git/modules/a/b/modules/c/HEAD", ""),
        (".git/modules/a/b/modules/c/config", "[core]\n\tworktree = ../../../../../../sub/c\n\thooksPath = .h\n"),
        ("sub/.git", "gitdir: ../.git/modules/a/b\n"),
        ("sub/c/.git", "gitdir: ../../.git/modules/a/b/modules/c\n"),
        (".git/modules/gone/HEAD", ""),
        (".git/modules/gone/config", "[core]\n\tworktree = ../../../gone\n\thooksPath = .h\n"),
    ]);
    fixture.write(".git/worktrees/wt/gitdir", &format!("{}\n", fixture.root.join("wt/.git").display()));
    let found = fixture.claims(Purpose::Hooks, &[]);
    let real = |path: &String| stagewright_files::follow(&fixture.root.join(path)).unwrap().real;
    let found: BTreeSet<_> = found.iter().map(real).collect();
    let expected =
        [".all", ".own", "wt/.all", "wt/.own", "wt/.hk", "sub/.h", "sub/c/.h"].map(|path| fixture.root.join(path));
    assert_eq!(found, expected.into_iter().collect());
}

#[test]
fn targets_of_links_in_a_git_directory_are_claimed() {
    let fixture =
        Fixture::new(&[("githooks/pre-push", ""), ("scripts/x", ""), ("conf/gitconfig", "[core]\nhooksPath = c\n")]);
    let links = [
        ("../githooks", ".git/hooks"),
        ("../conf/gitconfig", ".git/config"),
        ("../conf", ".git/info"),
        ("../../../../scripts/x", ".git/modules/m/hooks/post-commit"),
        ("HEAD", ".git/ORIG_HEAD"),
        ("/etc/passwd", ".git/description"),
        ("loop", ".git/loop"),
    ];
    // In reverse order, since creating an inner link creates the folders that contain it.
    links.iter().rev().for_each(|(target, path)| fixture.link(target, path));
    fixture.link("../../../../scripts/new", ".git/modules/m/hooks/pre-push");
    assert_eq!(fixture.claims(Purpose::Hooks, &[]), [".git/hooks", "c"]);
    assert_eq!(fixture.claims(Purpose::Settings, &[]), [".git/config", ".git/info"]);
    assert_eq!(
        fixture.claims(Purpose::Program, &[]),
        [".git/modules/m/hooks/post-commit", ".git/modules/m/hooks/pre-push"]
    );
}

#[test]
fn every_word_that_names_a_file_of_the_workspace_is_claimed() {
    let named = |key: &str, value: &str| {
        let fixture =
            Fixture::new(&[("tools/a b", ""), ("tools/fs", ""), ("tools/x.sh", ""), ("README", ""), ("main", "")]);
        let value = value.replace('@', &fixture.root.display().to_string());
        let home = fixture.folder.path().canonicalize().unwrap();
        let value = OsString::from(value);
        let mut files = named_files(key, &value, Some(&home), &fixture.root, &fixture.root);
        if files.is_empty() {
            files.extend(missing_program(key, &value, Some(&home), &fixture.root, &fixture.root));
        }
        let shown: Vec<_> =
            files.iter().map(|path| path.strip_prefix(&fixture.root).unwrap().display().to_string()).collect();
        shown.join(" ")
    };
    for (value, files) in [
        ("tools/fs --fast", "tools/fs"),
        ("./tools/fs", "tools/fs"),
        ("~/w/tools/fs", "tools/fs"),
        ("@/tools/fs", "tools/fs"),
        ("$HOME/w/tools/fs -x", "tools/fs"),
        ("sh main", "main"),
        ("main", ""),
        ("env A=tools/fs sh -c 'exec tools/x.sh'", "tools/fs tools/x.sh"),
        ("'tools/a b' x", "tools/a b"),
        ("tools/a\\ b x", "tools/a b"),
        ("tools/a b", "tools/a b"),
        ("!f() { tools/x.sh \"$@\"; }; f", "tools/x.sh"),
        ("\"$(git rev-parse --show-toplevel)/tools/x.sh\"", "tools/x.sh"),
        ("tools/new --flag", "tools/new"),
        ("/bin/sh -x", ""),
    ] {
        assert_eq!(named("core.fsmonitor", value), files, "{value}");
    }
    // A key of a later version of git, or of another program.
    assert_eq!(named("new.key", "tools/fs"), "tools/fs");
    assert_eq!(named("new.key", "tools/new"), "");
    assert_eq!(named("user.name", "Ada README"), "");
    assert_eq!(named("core.attributesfile", "README"), "README");
}

#[test]
fn variables_name_the_users_configuration() {
    let fixture = Fixture::new(&[]);
    let variables = [("XDG_CONFIG_HOME", "@/w/.config"), ("GIT_CONFIG_GLOBAL", "@/w/gitconfig")];
    assert_eq!(fixture.claims(Purpose::Private, &variables), [".config/git"]);
    assert_eq!(fixture.claims(Purpose::Settings, &variables), ["gitconfig"]);
    fixture.write("gitconfig", "[core]\n\thooksPath = named\n");
    fixture.write("tools/ssh", "");
    fixture.write("template/hooks/pre-push", "");
    let variables = [
        ("GIT_CONFIG_GLOBAL", "@/w/gitconfig"),
        ("GIT_CONFIG_KEY_0", "core.hooksPath"),
        ("GIT_CONFIG_VALUE_0", "counted"),
        ("GIT_SSH_COMMAND", "tools/ssh -v"),
        ("GIT_TEMPLATE_DIR", "@/w/template"),
    ];
    assert_eq!(fixture.claims(Purpose::Hooks, &variables), ["counted", "named", "template"]);
    assert_eq!(fixture.claims(Purpose::Program, &variables), ["tools/ssh"]);
}

#[test]
fn a_hooks_path_that_is_not_utf8_is_claimed() {
    let fixture = Fixture::new(&[]);
    fs::write(fixture.root.join(".git/config"), b"[core]\n\thooksPath = h\xff\n").unwrap();
    let claims = UserGit::default().repository(&fixture.root, &fixture.root.join(".git")).unwrap();
    let hooks = claims.iter().find(|claim| claim.purpose == Purpose::Hooks).unwrap();
    assert_eq!(hooks.path.file_name().unwrap().as_bytes(), b"h\xff");
}
