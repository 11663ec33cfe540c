//! The pages of commits on hosting services.

use serde::Deserialize;
use stagewright_sdk::{JsonSchema, schemars};

/// A kind of hosting service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Forge {
    Github,
    Gitlab,
    /// Gitea and Forgejo.
    Gitea,
    Bitbucket,
}

impl Forge {
    /// The kind that a host's name stands for. Bitbucket's own servers have other addresses than bitbucket.org.
    fn of_host(host: &str) -> Option<Forge> {
        match host {
            "bitbucket.org" => return Some(Forge::Bitbucket),
            "codeberg.org" => return Some(Forge::Gitea),
            _ => {}
        }
        host.split('.').find_map(|label| match label {
            "github" => Some(Forge::Github),
            "gitlab" => Some(Forge::Gitlab),
            "gitea" | "forgejo" => Some(Forge::Gitea),
            _ => None,
        })
    }

    fn path(self) -> &'static str {
        match self {
            Forge::Github | Forge::Gitea => "commit",
            Forge::Gitlab => "-/commit",
            Forge::Bitbucket => "commits",
        }
    }
}

/// Makes links to commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Links(Option<String>);

impl Links {
    /// For the repository with this web address; without one, there are no links.
    pub(crate) fn to(address: Option<&str>, forge: Option<Forge>) -> Links {
        Links(address.and_then(|address| {
            let (_, rest) = address.split_once("://")?;
            let host = rest.split(['/', ':']).next()?.to_ascii_lowercase();
            let forge = forge.or_else(|| Forge::of_host(&host))?;
            Some(format!("{address}/{}", forge.path()))
        }))
    }

    /// The short id in Markdown.
    pub(crate) fn commit(&self, id: &str) -> String {
        let short = id.get(..7).unwrap_or(id);
        match &self.0 {
            Some(base) => format!("[`{short}`]({base}/{id})"),
            None => format!("`{short}`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Forge, Links};

    #[test]
    fn each_forge_has_its_own_pages() {
        let cases = [
            ("https://github.com/acme/app", None, "[`abcdef0`](https://github.com/acme/app/commit/abcdef0123)"),
            (
                "https://gitlab.example:8443/a/b/c",
                None,
                "[`abcdef0`](https://gitlab.example:8443/a/b/c/-/commit/abcdef0123)",
            ),
            ("https://codeberg.org/a/b", None, "[`abcdef0`](https://codeberg.org/a/b/commit/abcdef0123)"),
            ("http://gitea.local:3000/a/b", None, "[`abcdef0`](http://gitea.local:3000/a/b/commit/abcdef0123)"),
            ("https://bitbucket.org/a/b", None, "[`abcdef0`](https://bitbucket.org/a/b/commits/abcdef0123)"),
            ("https://git.example/a/b", None, "`abcdef0`"),
            ("https://notgithub.com/a/b", None, "`abcdef0`"),
            (
                "https://git.example/a/b",
                Some(Forge::Gitlab),
                "[`abcdef0`](https://git.example/a/b/-/commit/abcdef0123)",
            ),
        ];
        for (address, forge, expected) in cases {
            assert_eq!(Links::to(Some(address), forge).commit("abcdef0123"), expected, "{address}");
        }
        assert_eq!(Links::to(None, Some(Forge::Github)).commit("abcdef0123"), "`abcdef0`");
    }
}
