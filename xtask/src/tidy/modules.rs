//! Dependencies between the modules of a crate. Implements as much of Rust's name resolution as is needed to follow `use`,
//! re-exports and paths. Method calls, and names that macros generate, are ignored.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree};

use crate::cargo::Result;

/// A crate's modules; the first is its root.
pub(super) struct Modules {
    modules: Vec<Module>,
}

/// From a file that uses names to the file that defines them, with the names.
pub(super) type Arrows = BTreeMap<(PathBuf, PathBuf), Vec<String>>;

#[derive(Default)]
struct Module {
    file: PathBuf,
    parent: Option<usize>,
    children: HashMap<String, usize>,
    /// Names of the types, functions, constants, traits and macros that it defines.
    items: Vec<String>,
    imports: Vec<Import>,
    /// Paths in its code, each as its segments.
    mentions: Vec<Vec<String>>,
}

struct Import {
    /// The name in the importing module; none for `*`.
    name: Option<String>,
    path: Vec<String>,
    /// Whether it is `pub use`, which makes a name available without depending on it.
    is_reexport: bool,
}

impl Modules {
    /// Parses a crate, starting with its root file. Modules and items for tests are left out.
    pub(super) fn read(root: &Path) -> Result<Modules> {
        let mut modules = Modules { modules: Vec::new() };
        let folder = root.parent().unwrap_or(root);
        modules.read_file(root, folder, None)?;
        Ok(modules)
    }

    fn read_file(&mut self, file: &Path, children_in: &Path, parent: Option<usize>) -> Result<usize> {
        let text = std::fs::read_to_string(file).map_err(|error| format!("can't read {}: {error}", file.display()))?;
        let parsed = syn::parse_file(&text).map_err(|error| format!("can't parse {}: {error}", file.display()))?;
        self.add(parsed.items, file, children_in, parent)
    }

    fn add(&mut self, items: Vec<Item>, file: &Path, children_in: &Path, parent: Option<usize>) -> Result<usize> {
        let index = self.modules.len();
        self.modules.push(Module { file: file.to_owned(), parent, ..Module::default() });
        for item in items {
            if is_for_tests(attributes(&item)) {
                continue;
            }
            match item {
                Item::Mod(module) => {
                    let name = module.ident.to_string();
                    let folder = children_in.join(&name);
                    let child = match module.content {
                        Some((_, items)) => self.add(items, file, &folder, Some(index))?,
                        None => {
                            let (beside, within) = (children_in.join(format!("{name}.rs")), folder.join("mod.rs"));
                            let file = if beside.is_file() { beside } else { within };
                            self.read_file(&file, &folder, Some(index))?
                        }
                    };
                    self.modules[index].children.insert(name, child);
                }
                Item::Use(import) => {
                    let is_reexport = !matches!(import.vis, syn::Visibility::Inherited);
                    flatten(&import.tree, &mut Vec::new(), is_reexport, &mut self.modules[index].imports);
                }
                item => {
                    let module = &mut self.modules[index];
                    module.items.extend(defined(&item));
                    Mentions(&mut module.mentions).visit_item(&item);
                }
            }
        }
        Ok(index)
    }

    /// Every dependency of one file on another, except for those of a module on one that contains it.
    pub(super) fn arrows(&self) -> Arrows {
        let mut arrows = Arrows::new();
        for (index, module) in self.modules.iter().enumerate() {
            let imports = module.imports.iter().filter(|import| !import.is_reexport && import.name.is_some());
            for path in imports.map(|import| &import.path).chain(&module.mentions) {
                let Some((definer, name)) = self.resolve(index, path, 0) else { continue };
                let to = &self.modules[definer].file;
                if *to != module.file && !self.is_part_of(index, definer) {
                    let names: &mut Vec<String> = arrows.entry((module.file.clone(), to.clone())).or_default();
                    if !names.contains(&name) {
                        names.push(name);
                    }
                }
            }
        }
        arrows
    }

    /// Whether a module is inside of another one that isn't the crate root. The two count as one unit: an inner module may
    /// use whatever the outer one defines.
    fn is_part_of(&self, inner: usize, outer: usize) -> bool {
        outer != 0
            && std::iter::successors(self.modules[inner].parent, |&at| self.modules[at].parent).any(|at| at == outer)
    }

    /// The module that defines the item at `path`, and the item's name there; none if the path leads to a module or out of
    /// the crate.
    fn resolve(&self, from: usize, path: &[String], depth: usize) -> Option<(usize, String)> {
        // The compiler refuses a cycle of re-exports, but this code may run before it does, and must end.
        if depth > 16 {
            return None;
        }
        let (mut at, mut rest) = (from, path);
        let mut is_first = true;
        loop {
            let (name, after) = rest.split_first()?;
            match name.as_str() {
                "crate" => at = 0,
                "self" if is_first => {}
                "super" => at = self.modules[at].parent?,
                name => {
                    let module = &self.modules[at];
                    if let Some(&child) = module.children.get(name) {
                        at = child;
                    } else if module.items.iter().any(|item| item == name) {
                        return Some((at, name.to_owned()));
                    } else {
                        return self.resolve_import(at, name, after, depth);
                    }
                }
            }
            (rest, is_first) = (after, false);
        }
    }

    fn resolve_import(&self, at: usize, name: &str, after: &[String], depth: usize) -> Option<(usize, String)> {
        let imports = &self.modules[at].imports;
        let named = imports.iter().filter(|import| import.name.as_deref() == Some(name));
        let starred = imports.iter().filter(|import| import.name.is_none());
        let full = named.map(|import| [&import.path[..], after].concat());
        let through_star = starred.map(|import| [&import.path[..], &[name.to_owned()], after].concat());
        full.chain(through_star).find_map(|path| {
            // `use name::…` of an external crate would be resolved by the same import again, without end.
            if path.first().is_some_and(|first| first == name) && !self.modules[at].children.contains_key(name) {
                return None;
            }
            self.resolve(at, &path, depth + 1)
        })
    }
}

fn flatten(tree: &UseTree, path: &mut Vec<String>, is_reexport: bool, into: &mut Vec<Import>) {
    match tree {
        UseTree::Path(part) => {
            path.push(part.ident.to_string());
            flatten(&part.tree, path, is_reexport, into);
            path.pop();
        }
        UseTree::Group(group) => {
            for tree in &group.items {
                flatten(tree, path, is_reexport, into);
            }
        }
        UseTree::Name(part) => {
            let name = part.ident.to_string();
            // `use a::{self}` is `use a`.
            let full = if name == "self" { path.clone() } else { [&path[..], &[name]].concat() };
            into.push(Import { name: full.last().cloned(), path: full, is_reexport });
        }
        UseTree::Rename(part) => {
            let full = [&path[..], &[part.ident.to_string()]].concat();
            into.push(Import { name: Some(part.rename.to_string()), path: full, is_reexport });
        }
        UseTree::Glob(_) => into.push(Import { name: None, path: path.clone(), is_reexport }),
    }
}

fn defined(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let condition = attribute.path().is_ident("cfg").then(|| attribute.meta.require_list().ok()).flatten();
        condition.is_some_and(|list| list.tokens.to_string() == "test")
    })
}

/// Collects the paths of an item.
struct Mentions<'a>(&'a mut Vec<Vec<String>>);

impl<'ast> Visit<'ast> for Mentions<'_> {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            self.0.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        visit::visit_macro(self, call);
        paths_of_tokens(call.tokens.clone(), self.0);
    }

    fn visit_item_use(&mut self, import: &'ast syn::ItemUse) {
        // A `use` inside of a function body counts as a mention of each of its paths.
        let mut imports = Vec::new();
        flatten(&import.tree, &mut Vec::new(), false, &mut imports);
        self.0.extend(imports.into_iter().map(|import| import.path));
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !is_for_tests(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }
}

/// Collects the paths in the arguments of a macro, which can't be parsed: all words joined by `::`.
fn paths_of_tokens(tokens: TokenStream, into: &mut Vec<Vec<String>>) {
    let mut path: Vec<String> = Vec::new();
    let mut colons = 0;
    for token in tokens {
        match token {
            TokenTree::Ident(word) => {
                if colons != 2 {
                    into.extend((!path.is_empty()).then(|| std::mem::take(&mut path)));
                }
                path.push(word.to_string());
                colons = 0;
            }
            TokenTree::Punct(mark) if mark.as_char() == ':' => colons += 1,
            other => {
                into.extend((!path.is_empty()).then(|| std::mem::take(&mut path)));
                colons = 0;
                if let TokenTree::Group(group) = other {
                    paths_of_tokens(group.stream(), into);
                }
            }
        }
    }
    into.extend((!path.is_empty()).then_some(path));
}
