//! Locates mistakes in a pipeline file that are found after it was read: by plugins in their configuration, and by
//! checks of the machine on which the pipeline is to run.

use crate::diagnostic::{Diagnostic, Problem, Report};
use crate::plan::{Plan, Stage, StageIndex};
use crate::read::Places;
use crate::span::SourceSpan;
use crate::value_path::ValuePath;

/// A mistake in a stage's table.
#[derive(Clone, Debug)]
pub struct Mistake {
    /// The stage, or any of its matrix cells.
    pub stage: StageIndex,
    /// Where in the stage's table the mistake is.
    pub place: MistakePlace,
    /// What is wrong.
    pub message: String,
    /// How to fix it.
    pub help: Option<String>,
}

/// Where in a stage's table a mistake is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MistakePlace {
    /// In the plugin's configuration.
    Configuration {
        /// `with` or `rehearse.with`.
        table: &'static str,
        /// The path of the value in the table, as in `checks[0].status`; none for the table itself.
        path: Option<String>,
    },
    /// At a key of the stage itself.
    Key(&'static str),
    /// At an entry of the stage's permissions, such as `tools/lint` in `process`.
    Grant {
        /// The permission's key.
        permission: &'static str,
        /// The entry as written.
        entry: String,
    },
}

impl Plan {
    /// Makes errors of the mistakes, sorted by their places in the file's text.
    pub fn locate_mistakes(&self, file_name: &str, text: &str, mistakes: &[Mistake]) -> Vec<Diagnostic> {
        let places = Places::parse(text);
        let mut report = Report::new(file_name, text);
        for mistake in mistakes {
            report.error(|| self.problem(mistake, &places));
        }
        report.finish(None::<()>).err().into_iter().flatten().collect()
    }

    /// Makes warnings of mistakes that don't prevent a run, sorted by their places in the file's text.
    pub fn locate_warnings(&self, file_name: &str, text: &str, mistakes: &[Mistake]) -> Vec<Diagnostic> {
        let places = Places::parse(text);
        let mut report = Report::new(file_name, text);
        mistakes.iter().for_each(|mistake| report.warning(self.problem(mistake, &places)));
        report.finish(Some(())).map(|(_, warnings)| warnings).unwrap_or_default()
    }

    fn problem(&self, mistake: &Mistake, places: &Places<'_>) -> Problem {
        let stage = self.stage(mistake.stage);
        let (table, message) = (stage.table(), &mistake.message);
        let (code, span, message) = match &mistake.place {
            MistakePlace::Configuration { table: of, path } => {
                let span = configured_at(places, stage, of, path.as_deref());
                let path = path.as_ref().map(|path| format!(".{path}")).unwrap_or_default();
                ("stagewright::config", span, format!("`{of}{path}` of [{table}]: {message}"))
            }
            MistakePlace::Key(key) => {
                let span = places.key(stage, key).unwrap_or(stage.location);
                ("stagewright::stage", span, format!("[{table}]: {message}"))
            }
            MistakePlace::Grant { permission, entry } => {
                let span = places.grant(stage, permission, entry).unwrap_or(stage.location);
                ("stagewright::grant", span, format!("`{permission}` of [{table}]: {message}"))
            }
        };
        let problem = Problem::new(code, span, message);
        mistake.help.iter().fold(problem, |problem, help| problem.help(help))
    }
}

/// The place of a value. If the value is missing, the place of the innermost table or list that should contain it.
fn configured_at(places: &Places<'_>, stage: &Stage, table: &str, path: Option<&str>) -> SourceSpan {
    let mut path = path.map(ValuePath::parse).unwrap_or_default();
    // A plugin can report a value that isn't in the file, such as a missing key, or a path with a dot in a key, which
    // parses into other steps. Removing steps from the end leads to an enclosing value that exists, or else to the
    // stage's header.
    loop {
        match places.value(stage, table, &path) {
            Some(span) => return span,
            None if path.0.pop().is_none() => return stage.location,
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistake_is_located_at_its_value_or_the_enclosing_table() {
        let text = "schema = 1\npipeline.name = 'x'\n[stages.a]\nuses = 'noop'\n\
                    with = { checks = [{}, { status = 'ok', 'a.b' = 1 }] }\n[stages.b]\nuses = 'noop'\n";
        let (plan, _) = Plan::parse("x.toml", text, &["noop"].into_iter().collect()).unwrap();
        let places = [(0, "checks[1].status"), (0, "checks[0].path"), (0, "checks[1].a.b"), (0, ""), (1, "run")];
        let mistakes = places.map(|(stage, path)| Mistake {
            stage: plan.indices().nth(stage).unwrap(),
            place: MistakePlace::Configuration { table: "with", path: Some(path.to_owned()) },
            message: "wrong".to_owned(),
            help: None,
        });
        let found = plan.locate_mistakes("x.toml", text, &mistakes);
        let shown = found.iter().map(|error| &text[error.span().start..error.span().end]).collect::<Vec<_>>();
        let table = "{ checks = [{}, { status = 'ok', 'a.b' = 1 }] }";
        assert_eq!(shown[..4], [table, "{}", "{ status = 'ok', 'a.b' = 1 }", "'ok'"]);
        assert_eq!(found[3].message(), "`with.checks[1].status` of [stages.a]: wrong");
        assert_eq!(found[4].position().0, 6);
    }
}
