//! From text to CEL's syntax tree and what it names; from the tree to a value.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use cel::common::ast::{CallExpr, EntryExpr, Expr, LiteralValue, SourceInfo, operators};
use cel::common::types::{CelString, DYN_TYPE, STRING_TYPE};
use cel::common::value::{CowVal, Val};
use cel::{Context, Env, ExecutionError, IdedExpr, ParseErrors, Value};
use serde_json::Value as Json;

use super::flow::{self, Source};
use super::{NeedsStatus, Scope, budget, scan, value};
use crate::nearest::nearest;

/// Names that CEL resolves to types.
pub(super) const TYPES: [&str; 11] =
    ["bool", "bytes", "double", "int", "list", "map", "null_type", "optional_type", "string", "type", "uint"];

/// Functions that answer from the needs of the stage.
pub(super) type Status = fn(NeedsStatus) -> bool;
pub(super) const STATUS_FUNCTIONS: [(&str, Status); 4] = [
    ("always", |_| true),
    ("cancelled", |needs| needs.cancelled),
    ("failure", |needs| needs.failed && !needs.cancelled),
    ("success", |needs| !needs.failed && !needs.cancelled),
];

/// Functions and methods, as CEL declares them. The library can't be asked, and a misspelt name should be found before
/// a run.
const FUNCTIONS: [&str; 35] = [
    "bool",
    "bytes",
    "charAt",
    "contains",
    "double",
    "dyn",
    "endsWith",
    "format",
    "from_json",
    "hasValue",
    "indexOf",
    "int",
    "join",
    "lastIndexOf",
    "lowerAscii",
    "matches",
    "none",
    "of",
    "ofNonZeroValue",
    "or",
    "orValue",
    "quote",
    "replace",
    "reverse",
    "size",
    "split",
    "startsWith",
    "string",
    "substring",
    "to_json",
    "trim",
    "type",
    "uint",
    "upperAscii",
    "value",
];

/// Names that CEL resolves to a namespace of functions, as in `optional.of(x)`.
pub(super) const NAMESPACES: [&str; 2] = ["optional", "strings"];

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    env.add_extension(cel::extensions::strings)
        .and_then(|_| env.add_overload("to_json", "to_json(dyn)", vec![DYN_TYPE], call_to_json))
        .and_then(|()| env.add_overload("from_json", "from_json(string)", vec![STRING_TYPE], call_from_json))
        .and_then(|()| budget::declare(&mut env))
        .expect("none of these is in the standard library");
    Arc::new(env)
});

/// A use of a top-level variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    /// The variable.
    pub(crate) root: String,
    /// What is selected of it, where that is a plain name or a literal.
    pub(crate) member: Option<String>,
    /// Inside `has()`: the member need not be there.
    pub(crate) is_tested: bool,
    /// Where the variable stands in the expression's text.
    pub(crate) offset: usize,
}

#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) source: String,
    tree: IdedExpr,
    pub(super) references: Vec<Reference>,
    pub(super) roots: BTreeSet<String>,
    pub(super) stages: BTreeSet<String>,
    /// What may become text of its value.
    pub(super) sources: Vec<Source>,
    pub(super) calls_status: bool,
}

pub(super) fn parse(source: &str) -> Result<Parsed, (String, usize)> {
    if source.trim().is_empty() {
        return Err(("an expression is expected here".to_owned(), 0));
    }
    scan::check_size(source)?;
    let quoted = scan::quote_names(source);
    let (mut tree, places) = ENVIRONMENT
        .parser()
        .enable_ident_escape_syntax(true)
        .parse_with_source_info(&quoted.text)
        .map_err(|errors| explain(&errors, &quoted))?;
    let mut survey = Survey { places: &places, quoted: &quoted, found: Vec::new(), calls_status: false };
    survey.visit(&tree, &mut Vec::new())?;
    let Survey { found: references, calls_status, .. } = survey;
    let roots = references.iter().map(|reference| reference.root.clone()).collect();
    let stages = references.iter().filter(|reference| reference.root == "stages");
    let stages = stages.filter_map(|reference| reference.member.clone()).collect();
    let sources = flow::sources(&tree);
    budget::bound(&mut tree);
    Ok(Parsed { source: source.to_owned(), tree, references, roots, stages, sources, calls_status })
}

const UNKNOWN_TOKEN: &str = "token recognition error at: '";

/// The first of the parser's complaints, in a reader's words. CEL counts lines and characters from 1.
fn explain(errors: &ParseErrors, quoted: &scan::Quoted<'_>) -> (String, usize) {
    let Some(error) = errors.errors.first() else { return ("it can't be parsed".to_owned(), 0) };
    let (line, column) = (usize::try_from(error.pos.0).unwrap_or(0), usize::try_from(error.pos.1).unwrap_or(0));
    let before: usize = quoted.text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let within: usize = quoted.text[before..].chars().take(column.saturating_sub(1)).map(char::len_utf8).sum();
    let message = error.msg.strip_prefix("Syntax error: ").unwrap_or(&error.msg);
    let unexpected = ["mismatched input '", "extraneous input '", UNKNOWN_TOKEN]
        .iter()
        .find_map(|start| message.strip_prefix(start))
        .map(|rest| rest.split_once("' expecting").map_or(rest.strip_suffix('\'').unwrap_or(rest), |(token, _)| token))
        .map(|token| token.trim().replace('`', ""));
    let reason = match unexpected.as_deref() {
        Some("<EOF>") => "it ends where more is expected".to_owned(),
        Some(token) if message.starts_with(UNKNOWN_TOKEN) && token.starts_with(['"', '\'']) => {
            "a string is never closed".to_owned()
        }
        Some(token) => format!("`{token}` is not expected here"),
        None if message.starts_with("missing ") || message.starts_with("no viable") => {
            "this is no CEL expression".to_owned()
        }
        None if message == "UNKNOWN" => "it is nested too deeply".to_owned(),
        None => message.to_owned(),
    };
    (reason, quoted.original(before + within))
}

/// Walks the tree and collects what it names.
struct Survey<'a> {
    places: &'a SourceInfo,
    quoted: &'a scan::Quoted<'a>,
    found: Vec<Reference>,
    calls_status: bool,
}

impl<'a> Survey<'a> {
    /// `bound` holds the variables of the macros around, which hide the top-level ones.
    fn visit(&mut self, node: &'a IdedExpr, bound: &mut Vec<&'a str>) -> Result<(), (String, usize)> {
        match &node.expr {
            Expr::Unspecified | Expr::Literal(_) => {}
            Expr::Ident(name) => self.add(node, name, None, false, bound)?,
            Expr::Select(select) => match &select.operand.expr {
                Expr::Ident(root) => {
                    self.add(&select.operand, root, Some(select.field.as_str()), select.test, bound)?;
                }
                _ => self.visit(&select.operand, bound)?,
            },
            Expr::Call(call) => self.visit_call(node, call, bound)?,
            Expr::List(list) => list.elements.iter().try_for_each(|element| self.visit(element, bound))?,
            Expr::Map(map) => self.visit_entries(map.entries.iter().map(|entry| &entry.expr), bound)?,
            Expr::Struct(literal) => self.visit_entries(literal.entries.iter().map(|entry| &entry.expr), bound)?,
            Expr::Comprehension(macro_call) => {
                self.visit(&macro_call.iter_range, bound)?;
                self.visit(&macro_call.accu_init, bound)?;
                let outside = bound.len();
                bound.extend([macro_call.iter_var.as_str(), macro_call.accu_var.as_str()]);
                bound.extend(macro_call.iter_var2.as_deref());
                self.visit(&macro_call.loop_cond, bound)?;
                self.visit(&macro_call.loop_step, bound)?;
                self.visit(&macro_call.result, bound)?;
                bound.truncate(outside);
            }
        }
        Ok(())
    }

    fn visit_entries(
        &mut self,
        entries: impl Iterator<Item = &'a EntryExpr>,
        bound: &mut Vec<&'a str>,
    ) -> Result<(), (String, usize)> {
        for entry in entries {
            match entry {
                EntryExpr::StructField(field) => self.visit(&field.value, bound)?,
                EntryExpr::MapEntry(entry) => {
                    self.visit(&entry.key, bound)?;
                    self.visit(&entry.value, bound)?;
                }
            }
        }
        Ok(())
    }

    fn visit_call(
        &mut self,
        node: &'a IdedExpr,
        call: &'a CallExpr,
        bound: &mut Vec<&'a str>,
    ) -> Result<(), (String, usize)> {
        let name = call.func_name.as_str();
        if let (operators::INDEX | operators::OPT_INDEX | operators::OPT_SELECT, [operand, key]) = (name, &*call.args)
            && let (Expr::Ident(root), Expr::Literal(LiteralValue::String(member))) = (&operand.expr, &key.expr)
        {
            return self.add(operand, root, Some(member.inner()), name != operators::INDEX, bound);
        }
        if STATUS_FUNCTIONS.iter().any(|(status, _)| *status == name) {
            self.calls_status = true;
            if !call.args.is_empty() || call.target.is_some() {
                return Err((format!("`{name}()` takes no arguments"), self.offset(node)));
            }
        } else if name.starts_with(|first: char| first.is_ascii_alphabetic()) && !FUNCTIONS.contains(&name) {
            let known = FUNCTIONS.iter().chain(STATUS_FUNCTIONS.iter().map(|(status, _)| status)).copied();
            let hint = nearest(name, known).map(|known| format!("; did you mean `{known}`?")).unwrap_or_default();
            return Err((format!("there is no function `{name}`{hint}"), self.offset(node)));
        }
        call.target.iter().try_for_each(|target| self.visit(target, bound))?;
        call.args.iter().try_for_each(|argument| self.visit(argument, bound))
    }

    fn add(
        &mut self,
        node: &IdedExpr,
        root: &str,
        member: Option<&str>,
        is_tested: bool,
        bound: &[&str],
    ) -> Result<(), (String, usize)> {
        let is_local = root.starts_with('@') || bound.contains(&root);
        if is_local || TYPES.contains(&root) || NAMESPACES.contains(&root) {
            return Ok(());
        }
        // A leading dot means the top-level variable, whatever a macro calls its own.
        let root = root.trim_start_matches('.');
        let offset = self.offset(node);
        if root == "stages" && member.is_none() {
            return Err(("name the stage outright, as in `stages.build` or `stages[\"build\"]`".to_owned(), offset));
        }
        let member = member.map(str::to_owned);
        self.found.push(Reference { root: root.to_owned(), member, is_tested, offset });
        Ok(())
    }

    fn offset(&self, node: &IdedExpr) -> usize {
        let start = self.places.offset_for(node.id).map_or(0, |(start, _)| start as usize);
        self.quoted.original(start.min(self.quoted.text.len()))
    }
}

pub(super) fn evaluate(parsed: &Parsed, scope: &dyn Scope) -> Result<Json, String> {
    let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
    budget::grant(&mut context);
    for root in &parsed.roots {
        if root == "stages" {
            let stages = parsed.stages.iter().filter_map(|name| Some((name.as_str(), scope.stage(name)?)));
            let stages = value::map(stages.map(|(name, stage)| (name, value::from_json(&stage))));
            context.add_variable_from_value("stages", stages);
        } else if let Some(json) = scope.root(root) {
            context.add_variable_from_value(root.as_str(), value::from_json(&json));
        }
    }
    if parsed.calls_status {
        let needs = scope.status();
        for (name, answer) in STATUS_FUNCTIONS {
            let answer = answer(needs);
            context.add_function(name, move || answer).map_err(|error| error.to_string())?;
        }
    }
    value::to_json(&Value::resolve(&parsed.tree, &context).map_err(|error| reason(&error))?)
}

fn reason(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(key) => format!("there is no `{key}`"),
        ExecutionError::UndeclaredReference(name) => format!("`{name}` has no value here"),
        ExecutionError::FunctionError { function, message } if function == budget::SPEND => message.clone(),
        ExecutionError::FunctionError { function, message } => format!("`{function}`: {message}"),
        ExecutionError::IndexOutOfBounds(index) => match value::to_json(index) {
            Ok(index) => format!("the list has no item {index}"),
            Err(_) => "the list has no such item".to_owned(),
        },
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => "it divides by zero".to_owned(),
        ExecutionError::Overflow(..) => "the result is too large for a 64-bit integer".to_owned(),
        // What stands in for a function has its name.
        other => other.to_string().replace("@join", "join").replace("@replace", "replace"),
    }
}

fn call_to_json<'b, 'v>(mut arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let argument = arguments.pop().ok_or_else(ExecutionError::missing_argument_or_target)?;
    let json = value::to_json(&Value::try_from(argument.as_ref())?)
        .map_err(|message| ExecutionError::function_error("to_json", message))?;
    Ok(CowVal::owned(CelString::from(json.to_string())))
}

fn call_from_json<'b, 'v>(mut arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let argument = arguments.pop();
    let text = argument.as_ref().and_then(|argument| argument.downcast_ref::<CelString<'_>>());
    let text = text.ok_or_else(ExecutionError::missing_argument_or_target)?;
    let json: Json =
        serde_json::from_str(text.inner()).map_err(|error| ExecutionError::function_error("from_json", error))?;
    let value: Box<dyn Val> = value::from_json(&json).try_into()?;
    Ok(CowVal::Owned(value))
}
