//! The modules of a crate, without those of its tests: what each defines, imports and names.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use proc_macro2::{Span, TokenStream, TokenTree};
use syn::{Attribute, Expr, ExprLit, ImplItem, Item, Lit, Meta, MetaNameValue, UseTree, Visibility, visit::Visit};

/// A crate. The first module is its root.
#[derive(Debug, Default)]
pub struct Tree {
    pub modules: Vec<Module>,
}

#[derive(Debug, Default)]
pub struct Module {
    /// From the root of the crate, which has none.
    pub path: Vec<String>,
    /// From the root of the repository.
    pub file: PathBuf,
    pub parent: Option<usize>,
    /// It is all of its file, not a part of one.
    pub is_file: bool,
    /// It is `pub`, and so are those that it is in.
    pub is_public: bool,
    pub children: BTreeMap<String, usize>,
    /// What is defined here, but modules.
    pub items: BTreeSet<String>,
    pub imports: Vec<Import>,
    /// What the code names, but in imports: paths of one name or more.
    pub named: Vec<Named>,
}

/// A name that is made known by `use`; none if it is all of a module.
#[derive(Debug)]
pub struct Import {
    pub named: Named,
    pub name: Option<String>,
    /// It is `pub`, if not to all.
    pub exported: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub path: Vec<String>,
    pub line: usize,
}

impl Tree {
    /// Reads the crate whose root module is `file`, from the root of the repository.
    ///
    /// # Errors
    ///
    /// A file of it is missing, or is no Rust.
    pub fn read(root: &Path, file: &Path) -> Result<Self> {
        let mut tree = Self::default();
        let folder = file.parent().unwrap_or(Path::new("")).to_owned();
        tree.read_file(root, file, &folder, Vec::new(), None)?;
        Ok(tree)
    }

    /// `folder` is where the files of its children are.
    fn read_file(
        &mut self,
        root: &Path,
        file: &Path,
        folder: &Path,
        path: Vec<String>,
        parent: Option<usize>,
    ) -> Result<usize> {
        let text = fs::read_to_string(root.join(file)).with_context(|| format!("cannot read {}", file.display()))?;
        let parsed = syn::parse_file(&text).with_context(|| format!("{} is no Rust", file.display()))?;
        self.read_items(root, file, folder, path, parent, &parsed.items)
    }

    fn read_items(
        &mut self,
        root: &Path,
        file: &Path,
        folder: &Path,
        path: Vec<String>,
        parent: Option<usize>,
        items: &[Item],
    ) -> Result<usize> {
        let here = self.modules.len();
        let module = Module { path: path.clone(), file: file.to_owned(), parent, ..Module::default() };
        self.modules.push(Module { is_file: true, is_public: parent.is_none(), ..module });
        let mut reader = Reader::default();
        for item in items {
            let Item::Mod(module) = item else {
                reader.visit_item(item);
                continue;
            };
            if is_test(&module.attrs) {
                continue;
            }
            let name = module.ident.to_string();
            let (below, named) = (folder.join(&name), path_attribute(&module.attrs));
            let path = [path.clone(), vec![name.clone()]].concat();
            let child = match &module.content {
                Some((_, items)) => {
                    let below = named.map_or(below, |named| folder.join(named));
                    self.read_items(root, file, &below, path, Some(here), items)?
                }
                None => {
                    let files = [below.with_extension("rs"), below.join("mod.rs")];
                    let named = named.map(|named| file.with_file_name(named));
                    if named.is_some_and(|named| !files.contains(&named)) {
                        bail!("{} declares the module {name} with another file than its own", file.display());
                    }
                    let Some(found) = files.iter().find(|file| root.join(file).exists()) else {
                        bail!("{} declares the module {name}, whose file is missing", file.display());
                    };
                    self.read_file(root, found, &below, path, Some(here))?
                }
            };
            let is_public =
                matches!(module.vis, Visibility::Public(_)) && self.modules.get(here).is_some_and(|it| it.is_public);
            if let Some(child) = self.modules.get_mut(child) {
                (child.is_file, child.is_public) = (module.content.is_none(), is_public);
            }
            reader.children.insert(name, child);
        }
        if let Some(module) = self.modules.get_mut(here) {
            (module.children, module.items) = (reader.children, reader.items);
            (module.imports, module.named) = (reader.imports, reader.named);
        }
        Ok(here)
    }
}

/// What `#[path = ".."]` says: the folder of an inline module's files, or a module's file.
fn path_attribute(attributes: &[Attribute]) -> Option<String> {
    attributes.iter().find_map(|it| match &it.meta {
        Meta::NameValue(MetaNameValue { path, value: Expr::Lit(ExprLit { lit: Lit::Str(folder), .. }), .. })
            if path.is_ident("path") =>
        {
            Some(folder.value())
        }
        _ => None,
    })
}

/// True for what is compiled for tests alone.
pub fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().filter(|it| it.path().is_ident("cfg")).any(|it| {
        let words = it.meta.require_list().map(|list| list.tokens.to_string()).unwrap_or_default();
        let mut words = words.split(|c: char| !c.is_alphanumeric() && c != '_');
        words.clone().all(|word| word != "not" && word != "any")
            && words.any(|word| word == "test" || word == "doctest")
    })
}

/// What the items of one module say.
#[derive(Default)]
struct Reader {
    children: BTreeMap<String, usize>,
    items: BTreeSet<String>,
    imports: Vec<Import>,
    named: Vec<Named>,
    /// How many items the one that is being read is within.
    depth: usize,
}

impl Reader {
    fn import(&mut self, tree: &UseTree, before: &[String], exported: bool) {
        let path = |name: &str| if name == "self" { before.to_vec() } else { [before, &[name.to_owned()]].concat() };
        let mut add = |path: Vec<String>, name, at: Span| {
            let named = Named { path, line: at.start().line };
            self.imports.push(Import { named, name, exported });
        };
        match tree {
            // A relative path begins so; within a group `self` stands for what is before it.
            UseTree::Path(it) if it.ident == "self" && before.is_empty() => {
                self.import(&it.tree, &["self".to_owned()], exported);
            }
            UseTree::Path(it) => self.import(&it.tree, &path(&it.ident.to_string()), exported),
            UseTree::Group(it) => it.items.iter().for_each(|tree| self.import(tree, before, exported)),
            UseTree::Glob(it) => add(before.to_vec(), None, it.star_token.spans[0]),
            UseTree::Rename(it) => add(path(&it.ident.to_string()), Some(it.rename.to_string()), it.ident.span()),
            UseTree::Name(it) => {
                let path = path(&it.ident.to_string());
                let name = path.last().cloned();
                add(path, name, it.ident.span());
            }
        }
    }

    /// What a macro is given: no syntax, but paths can be told.
    fn tokens(&mut self, tokens: TokenStream) {
        let (mut path, mut colons, mut line) = (Vec::<String>::new(), 0, 0);
        for token in tokens {
            match token {
                TokenTree::Punct(it) if it.as_char() == ':' => {
                    colons += 1;
                    continue;
                }
                TokenTree::Ident(it) => {
                    if colons != 2 {
                        self.name(&mut path, line);
                    }
                    line = it.span().start().line;
                    path.push(it.to_string());
                }
                TokenTree::Group(it) => {
                    self.name(&mut path, line);
                    self.tokens(it.stream());
                }
                _ => self.name(&mut path, line),
            }
            colons = 0;
        }
        self.name(&mut path, line);
    }

    /// Ends a path of a macro. A single word in small letters is more likely a variable.
    fn name(&mut self, path: &mut Vec<String>, line: usize) {
        let path = std::mem::take(path);
        let is_variable = |name: &String| !name.starts_with(char::is_uppercase);
        if path.len() > 1 || path.first().is_some_and(|name| !is_variable(name)) {
            self.named.push(Named { path, line });
        }
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast Item) {
        let (attributes, name) = match item {
            Item::Const(it) => (&it.attrs, Some(&it.ident)),
            Item::Enum(it) => (&it.attrs, Some(&it.ident)),
            Item::Fn(it) => (&it.attrs, Some(&it.sig.ident)),
            Item::Macro(it) => (&it.attrs, it.ident.as_ref()),
            Item::Static(it) => (&it.attrs, Some(&it.ident)),
            Item::Struct(it) => (&it.attrs, Some(&it.ident)),
            Item::Trait(it) => (&it.attrs, Some(&it.ident)),
            Item::Type(it) => (&it.attrs, Some(&it.ident)),
            Item::Union(it) => (&it.attrs, Some(&it.ident)),
            Item::Impl(it) => (&it.attrs, None),
            Item::Use(it) => (&it.attrs, None),
            Item::Mod(it) => (&it.attrs, None),
            _ => return,
        };
        if is_test(attributes) {
            return;
        }
        if let Item::Use(it) = item {
            let exported = !matches!(it.vis, Visibility::Inherited);
            if it.leading_colon.is_none() {
                self.import(&it.tree, &[], exported);
            }
            return;
        }
        // What a function defines for itself is seen there alone.
        self.items.extend(name.filter(|_| self.depth == 0).map(ToString::to_string));
        self.depth += 1;
        syn::visit::visit_item(self, item);
        self.depth -= 1;
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let test = match item {
            ImplItem::Fn(it) => is_test(&it.attrs),
            ImplItem::Const(it) => is_test(&it.attrs),
            _ => false,
        };
        if !test {
            syn::visit::visit_impl_item(self, item);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if let (None, Some(first)) = (&path.leading_colon, path.segments.first()) {
            let names = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.named.push(Named { path: names, line: first.ident.span().start().line });
        }
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, it: &'ast syn::Macro) {
        self.visit_path(&it.path);
        self.tokens(it.tokens.clone());
    }

    fn visit_attribute(&mut self, _: &'ast Attribute) {}

    // `pub(super)` uses nothing.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}
}
