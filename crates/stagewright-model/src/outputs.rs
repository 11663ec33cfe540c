//! Outputs that expressions read and that no plugin sets.

use std::collections::BTreeSet;

use crate::diagnostic::{Diagnostics, Problem, Report};
use crate::nearest::nearest;
use crate::plan::{OutputRead, Plan};

impl Plan {
    /// Rejects expressions that read an output which its stage never sets. `text` is the text of the pipeline file;
    /// `declared` are the outputs of the stages' plugins by plan index, none for a plugin that may set others as well.
    ///
    /// # Errors
    /// A diagnostic for each such expression.
    pub fn check_outputs<'a>(
        &self,
        file_name: &str,
        text: &str,
        declared: &dyn Fn(usize) -> Option<BTreeSet<&'a str>>,
    ) -> Result<(), Diagnostics> {
        let mut report = Report::new(file_name, text);
        for OutputRead { stage, output, place } in &self.output_reads {
            // All cells of a matrix have the same plugin.
            let Some(declared) = self.named(stage).next().and_then(|index| declared(index.get())) else { continue };
            if !declared.contains(output.as_str()) {
                let help = match nearest(output, declared.iter().copied()) {
                    Some(name) => format!("did you mean `{name}`?"),
                    None if declared.is_empty() => "its plugin sets no outputs".to_owned(),
                    None => format!("its plugin sets {}", crate::words::list(&declared)),
                };
                report.error(|| {
                    let message = format!("the stage `{stage}` has no output `{output}`");
                    Problem::new("stagewright::unknown-output", *place, message).help(help)
                });
            }
        }
        report.finish(Some(())).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_that_no_plugin_sets_is_found_at_its_place() {
        let text = "schema = 1\npipeline.name = 'x'\n[stages.lic]\nuses = 'noop'\n[stages.b]\nuses = 'noop'\n\
                    needs = ['lic']\nif = 'stages.lic.outputs.checked > 1 && !has(stages.lic.outputs.x)'\n\
                    with.a = 'of ${{ stages.lic.outputs.chekced }}'\n";
        let (plan, _) = Plan::parse("x.toml", text, &["noop"].into_iter().collect()).unwrap();
        let closed = |_: usize| Some(BTreeSet::from(["checked", "total"]));
        let found = plan.check_outputs("x.toml", text, &closed).unwrap_err();
        let found = found.into_iter().collect::<Vec<_>>();
        assert_eq!(found.len(), 1);
        assert_eq!(&text[found[0].span().start..found[0].span().end], "stages.lic.outputs.chekced");
        assert_eq!(found[0].message(), "the stage `lic` has no output `chekced`");
        assert_eq!(found[0].help(), Some("did you mean `checked`?"));
        assert!(plan.check_outputs("x.toml", text, &|_| None).is_ok());
    }
}
