//! Recognises compile errors, which the plugin reports differently from failing tests.

/// How many lines of the first error are kept.
const LINES: usize = 15;

/// The compile errors in Cargo's standard error.
#[derive(Default)]
pub(crate) struct CompileErrors {
    /// The compiler's first error: its message, then the lines with its place and the source code.
    first: Vec<String>,
    inside: bool,
    packages: Vec<String>,
}

impl CompileErrors {
    pub(crate) fn push(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix("error: could not compile `") {
            self.inside = false;
            // Cargo prints this line for each target of a package.
            if let Some(package) =
                rest.split('`').next().filter(|package| !self.packages.iter().any(|known| known == package))
            {
                self.packages.push(package.to_owned());
            }
        } else if self.first.is_empty() && (line.starts_with("error[") || line.starts_with("error: ")) {
            self.inside = true;
            self.first.push(line.to_owned());
        } else if self.inside {
            self.inside = !line.trim().is_empty() && self.first.len() < LINES;
            if self.inside {
                self.first.push(line.to_owned());
            }
        }
    }

    /// The packages that didn't compile.
    pub(crate) fn packages(&self) -> &[String] {
        &self.packages
    }

    pub(crate) fn first(&self) -> &[String] {
        &self.first
    }
}
