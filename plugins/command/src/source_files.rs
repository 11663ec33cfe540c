//! Finds the file of the workspace that a program means by a path. Programs print absolute paths, which the plugin can't
//! compare with the workspace's own since it doesn't know it, and paths that are relative to the folder they run in.

use problem_matchers::SourcePlace;
use stagewright_sdk::{WorkspacePath, workspace};

/// The most files that are looked for. Each takes a listing of the host.
const LOOKUPS: usize = 1000;

/// Where no workspace is, so that a header or a library isn't taken for a file of the same name.
const SYSTEM: [&str; 5] = ["/usr/include/", "/usr/lib", "/usr/local/", "/lib", "/rustc/"];

/// The files of the workspace.
pub(crate) struct SourceFiles<'a> {
    cwd: Option<&'a WorkspacePath>,
    /// The workspace's own path, once it is known from a file that was found.
    root: Option<String>,
    lookups: usize,
}

impl<'a> SourceFiles<'a> {
    pub(crate) fn new(cwd: Option<&'a WorkspacePath>) -> SourceFiles<'a> {
        SourceFiles { cwd, root: None, lookups: 0 }
    }

    /// The path relative to the workspace; none for one that is outside of it, or that can't be found.
    pub(crate) fn resolve(&mut self, place: &SourcePlace) -> Option<String> {
        let path = &place.path;
        if place.is_partial {
            let folders = [self.cwd.map(|cwd| cwd.as_str()), Some("")];
            return folders
                .into_iter()
                .flatten()
                .find_map(|folder| self.longest_suffix(folder, path))
                .map(|(path, _)| path);
        }
        if path.starts_with('/') {
            if let Some(root) = &self.root {
                return path.strip_prefix(root.as_str()).and_then(normalized);
            }
            if SYSTEM.iter().any(|folder| path.starts_with(folder)) {
                return None;
            }
            let (found, start) = self.longest_suffix("", path)?;
            self.root = Some(path[..start].to_owned());
            return Some(found);
        }
        let relative = match self.cwd {
            Some(cwd) => normalized(&format!("{cwd}/{path}")),
            None => normalized(path),
        };
        // Cargo, for one, prints paths that are relative to its workspace instead.
        let other = self.cwd.and_then(|_| normalized(path));
        let candidates = [&relative, &other];
        let found = candidates.into_iter().flatten().find(|path| self.exists(path)).cloned();
        found.or(relative)
    }

    /// The longest end of a path that exists in a folder of the workspace, and where it begins in the path.
    fn longest_suffix(&mut self, folder: &str, path: &str) -> Option<(String, usize)> {
        let starts = std::iter::once(0).chain(path.match_indices('/').map(|(at, _)| at + 1));
        let starts = starts.filter(|&start| !path[start..].starts_with('/')).collect::<Vec<_>>();
        starts.into_iter().find_map(|start| {
            let candidate = normalized(&format!("{folder}/{}", &path[start..]))?;
            self.exists(&candidate).then_some((candidate, start))
        })
    }

    fn exists(&mut self, path: &str) -> bool {
        self.lookups += 1;
        self.lookups <= LOOKUPS && workspace::glob(&literal(path)).is_ok_and(|found| !found.is_empty())
    }
}

/// The path without `.`, `..` and empty names; none if it leads out of the workspace.
fn normalized(path: &str) -> Option<String> {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()?),
            name => names.push(name),
        }
    }
    Some(names.join("/")).filter(|path| !path.is_empty())
}

/// A pattern that matches only this path.
fn literal(path: &str) -> String {
    let mut pattern = String::with_capacity(path.len());
    for letter in path.chars() {
        if "*?[]{}\\".contains(letter) {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use stagewright_sdk::fake::FakeHost;

    use super::*;

    fn place(path: &str) -> SourcePlace {
        SourcePlace { path: path.to_owned(), line: Some(1), column: None, is_partial: false }
    }

    /// The files that are found for some paths in a workspace with a few files.
    fn resolved(cwd: Option<&str>, places: &[SourcePlace]) -> Vec<Option<String>> {
        let host =
            FakeHost::new().file("src/a.c", "").file("sub/src/b.c", "").file("sub/pages/[id].js", "").file("c.c", "");
        let cwd = cwd.map(|cwd| WorkspacePath::parse(cwd).unwrap());
        let mut files = SourceFiles::new(cwd.as_ref());
        host.with(|| places.iter().map(|place| files.resolve(place)).collect()).0
    }

    #[test]
    fn relative_paths_are_those_of_the_folder_or_of_the_workspace() {
        let found = resolved(Some("sub"), &[place("src/b.c"), place("./src/a.c"), place("../c.c"), place("new.c")]);
        assert_eq!(found.into_iter().flatten().collect::<Vec<_>>(), ["sub/src/b.c", "src/a.c", "c.c", "sub/new.c"]);
        assert_eq!(resolved(None, &[place("../../etc/passwd")]), [None]);
    }

    #[test]
    fn absolute_paths_are_recognised_by_their_end() {
        let found = resolved(
            None,
            &[place("/home/me/app/sub/pages/[id].js"), place("/home/me/app/new.c"), place("/home/me/other/c.c")],
        );
        let expected = [Some("sub/pages/[id].js"), Some("new.c"), None];
        assert_eq!(found.iter().map(Option::as_deref).collect::<Vec<_>>(), expected);
        assert_eq!(resolved(None, &[place("/usr/include/c.c"), place("/srv/c.c")]), [None, Some("c.c".to_owned())]);
    }

    #[test]
    fn the_module_of_a_package_may_be_in_any_folder() {
        let partial = SourcePlace { is_partial: true, ..place("example.org/app/src/b.c") };
        assert_eq!(resolved(Some("sub"), &[partial]), [Some("sub/src/b.c".to_owned())]);
        let partial = SourcePlace { is_partial: true, ..place("example.org/app/x.c") };
        assert_eq!(resolved(None, &[partial]), [None]);
    }
}
