//! Writes the notes of a release from the commits since the last good one.
//!
//! Input: the ledger's last good release of an environment, and the commits that lead from it to the run's. Output: notes in
//! Markdown, as a file, an artifact and an output. It deploys nothing, and doesn't act on the environment.

mod config;
mod forge;
mod markdown;
mod message;
mod notes;
#[cfg(test)]
mod tests;

use stagewright_sdk::environment::{self, Release};
use stagewright_sdk::source::{self, History, HistoryEnd};
use stagewright_sdk::text::count;
use stagewright_sdk::{
    Error, Finding, Manifest, Outcome, Problem, Requirement, Result, Stage, artifacts, log, outputs, workspace,
};

use crate::config::{Config, Missing};
use crate::forge::Links;
use crate::markdown::{code, escaped};
use crate::message::Message;
use crate::notes::Notes;

/// The most bytes of the notes as an output and in the summary; the artifact has all of them.
const MOST_OF_OUTPUT: usize = 256 << 10;

/// The plugin.
#[derive(Debug)]
pub struct ReleaseNotes;

impl Stage for ReleaseNotes {
    type Config = Config;

    fn manifest() -> Manifest {
        stagewright_sdk::manifest!()
            .output::<String>("notes", "The notes in Markdown; of long ones, the first 256 KiB")
            .output::<usize>("commits", "Number of commits in the notes")
            .output::<usize>("breaking", "Number of those that break something")
            .output::<Option<String>>("since", "The commit of the last good release; null for a first release")
    }

    fn validate(config: &Config) -> Vec<Problem> {
        config::problems(config)
    }

    fn requirements(config: &Config) -> Vec<Requirement> {
        vec![Requirement::write(config.file.as_str()).because("the notes are written there")]
    }

    fn run(config: Config) -> Result<Outcome> {
        let environment = config.environment().ok_or_else(|| Error::invalid("`environment` is missing"))?;
        let range = Range::find(&config, &environment)?;
        let address = source::repository()?;
        let mut remarks = range.remarks(&config);
        if source::dirty() {
            remarks.push("Files of the workspace differ from the newest of these commits.".to_owned());
        }
        for remark in &remarks {
            Finding::warning("incomplete-notes", remark.replace('`', "")).report();
        }
        let links = Links::to(address.as_deref(), config.forge);
        let notes = Notes {
            title: config.title.as_deref(),
            after: range.after(&environment, &links),
            remarks,
            commits: &range.history.commits,
            links,
        };
        publish(&config, &range, &notes.to_markdown())?;
        Ok(Outcome::Succeeded)
    }
}

stagewright_sdk::export_stage!(ReleaseNotes);

/// The commits of the notes.
#[derive(Debug)]
struct Range {
    /// The last good release, whose commit the notes follow; none for a first release.
    release: Option<Release>,
    history: History,
    /// Why the last good release doesn't count, in Markdown.
    lost: Option<String>,
}

impl Range {
    fn find(config: &Config, environment: &str) -> Result<Range> {
        let most = config.max_commits;
        let Some(release) = environment::good_release(environment)? else {
            return Range::first(config, None);
        };
        let what = format!("the last good release of `{environment}`, {}", release.artifact);
        if release.commit.is_empty() {
            let lost = format!("{what}, was deployed without a commit");
            return Range::without_commit(config, Error::failed(lost.clone()), lost);
        }
        match source::commits(Some(&release.commit), most) {
            Ok(history) => Ok(Range { release: Some(release), history, lost: None }),
            // The commit of the run is known, so it is that of the release which isn't.
            Err(error) => {
                let lost = format!("{what}, was deployed from {}, which the repository doesn't have", release.commit);
                Range::without_commit(config, error.context(lost.clone()), lost)
            }
        }
    }

    fn without_commit(config: &Config, error: Error, lost: String) -> Result<Range> {
        match config.missing {
            Missing::Fail => Err(error.help(
                "fetch the whole history with `git fetch --unshallow --tags`; if it was rewritten, set \
                 missing = \"first\" for this release",
            )),
            Missing::First => Range::first(config, Some(lost)),
        }
    }

    fn first(config: &Config, lost: Option<String>) -> Result<Range> {
        let tag = config.first_since.as_ref().map(|tag| format!("refs/tags/{tag}"));
        let history = source::commits(tag.as_deref(), config.max_commits)
            .map_err(|error| error.context("can't list the commits of a first release"))?;
        Ok(Range { release: None, history, lost })
    }

    /// What the commits follow, in Markdown.
    fn after(&self, environment: &str, links: &Links) -> String {
        match &self.release {
            Some(release) => {
                let by = Some(&release.by).filter(|by| !by.is_empty());
                let by = by.map(|by| format!(" by {}", escaped(by, 60))).unwrap_or_default();
                let (commit, artifact) = (links.commit(&release.commit), code(&release.artifact));
                format!("since {commit}, the last good release of {} ({artifact}{by})", escaped(environment, 60))
            }
            None => format!("in the first release to {}", escaped(environment, 60)),
        }
    }

    /// Why the list isn't simply all that is new, in Markdown.
    fn remarks(&self, config: &Config) -> Vec<String> {
        let mut remarks = Vec::new();
        if let Some(lost) = &self.lost {
            remarks.push(format!("These are not the commits since {}.", escaped(lost, 500)));
        }
        if let (None, Some(tag)) = (&self.release, &config.first_since) {
            remarks.push(format!("Only commits after the tag {} are listed.", code(tag)));
        }
        if self.history.diverged {
            let from = if self.release.is_some() { "the last good release" } else { "the tag" };
            remarks.push(format!(
                "The commit of {from} doesn't lead to this one: what was only in that one is gone, and isn't listed."
            ));
        }
        match self.history.end {
            HistoryEnd::Limit => {
                remarks.push(format!("There are more; these are the newest {}.", count(config.max_commits, "commit")));
            }
            HistoryEnd::Shallow => {
                remarks.push("There may be more: the clone is shallow, and has only these.".to_owned());
            }
            HistoryEnd::Since | HistoryEnd::Start | HistoryEnd::Other => {}
        }
        remarks
    }
}

fn publish(config: &Config, range: &Range, notes: &str) -> Result<()> {
    workspace::write(&config.file, notes)?;
    artifacts::publish(&config.name, &config.file, Some("text/markdown"))?;
    let commits = &range.history.commits;
    let breaking = commits.iter().filter(|commit| Message::of(commit).breaking.is_some()).count();
    let shown = shortened(notes);
    outputs::set("notes", &shown)?;
    outputs::set("commits", &commits.len())?;
    outputs::set("breaking", &breaking)?;
    outputs::set("since", &range.release.as_ref().map(|release| &release.commit))?;
    outputs::summary(&shown);
    log::info(format!("{} in `{}`", count(commits.len(), "commit"), config.file));
    Ok(())
}

/// The first lines, for where there is less room.
fn shortened(notes: &str) -> String {
    if notes.len() <= MOST_OF_OUTPUT {
        return notes.to_owned();
    }
    let cut = &notes[..notes.floor_char_boundary(MOST_OF_OUTPUT)];
    let whole = cut.rfind('\n').map_or("", |end| &cut[..end]);
    format!("{whole}\n\nThe artifact has the rest.\n")
}
