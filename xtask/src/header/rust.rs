//! What the library for C is, by its sources: structs, constants, and the functions that cross the interface.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, bail};
use syn::{Expr, ExprMatch, File, Item, ItemImpl, Pat, PointerMutability, ReturnType, Stmt, Type, visit::Visit};
use walkdir::WalkDir;

/// A function: what it gives, and what it takes, in C.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    pub gives: String,
    pub takes: Vec<String>,
}

/// All of it, with the names and types that C has for them.
#[derive(Debug, Default)]
pub struct Interface {
    /// The fields of each struct: name and type.
    pub structs: BTreeMap<String, Vec<(String, String)>>,
    pub constants: BTreeMap<String, u64>,
    pub functions: BTreeMap<String, Function>,
}

impl Interface {
    /// Reads the sources of the library, and the file with the numbers of errors.
    ///
    /// # Errors
    ///
    /// A file is no Rust, or has something that C has no word for.
    pub fn read(library: &Path, codes: &Path) -> Result<Self> {
        let mut files = Vec::new();
        for file in WalkDir::new(library).sort_by_file_name() {
            let file = file?;
            if file.path().extension().is_some_and(|it| it == "rs") {
                files.push(parse(file.path())?);
            }
        }
        let items = || files.iter().flat_map(|file| &file.items);
        let mut names = Names::default();
        for item in items() {
            match item {
                Item::Struct(it) if it.attrs.iter().any(|it| it.path().is_ident("repr")) => {
                    names.structs.push(it.ident.to_string());
                }
                // One that hides what it holds behind words.
                Item::Union(it) => {
                    let words = it.fields.named.first().context("a union without fields")?;
                    names.unions.insert(it.ident.to_string(), &words.ty);
                }
                _ => {}
            }
        }
        let mut interface = Self::default();
        for item in items() {
            interface.take(item, &names).with_context(|| format!("in {}", library.display()))?;
        }
        for item in parse(codes)?.items {
            if let Item::Impl(it) = item {
                interface.take_codes(&it)?;
            }
        }
        Ok(interface)
    }

    fn take(&mut self, item: &Item, names: &Names<'_>) -> Result<()> {
        match item {
            Item::Struct(it) if names.structs.contains(&it.ident.to_string()) => {
                let fields = it.fields.iter().map(|field| {
                    let name = field.ident.as_ref().map(ToString::to_string).unwrap_or_default();
                    Ok((name, names.c(&field.ty)?))
                });
                self.structs.insert(names.of_struct(&it.ident.to_string()), fields.collect::<Result<_>>()?);
            }
            Item::Const(it) if it.ident.to_string().starts_with("COFFERDAM_") => {
                self.constants.insert(it.ident.to_string(), number(&it.expr)?);
            }
            Item::Fn(it) if it.sig.ident.to_string().starts_with("cofferdam_") => self.take_function(&it.sig, names)?,
            Item::ForeignMod(it) => {
                for foreign in &it.items {
                    if let syn::ForeignItem::Fn(it) = foreign {
                        self.take_function(&it.sig, names)?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn take_function(&mut self, signature: &syn::Signature, names: &Names<'_>) -> Result<()> {
        let takes = signature.inputs.iter().map(|input| match input {
            syn::FnArg::Typed(it) => names.c(&it.ty),
            syn::FnArg::Receiver(_) => bail!("{} is a method", signature.ident),
        });
        let function = Function { gives: names.result(&signature.output)?, takes: takes.collect::<Result<_>>()? };
        self.functions.insert(signature.ident.to_string(), function);
        Ok(())
    }

    /// The numbers that a type's `code` gives its variants.
    fn take_codes(&mut self, block: &ItemImpl) -> Result<()> {
        #[derive(Default)]
        struct Arms(Vec<(String, u64)>);
        impl<'a> Visit<'a> for Arms {
            fn visit_expr_match(&mut self, it: &'a ExprMatch) {
                for arm in &it.arms {
                    let path = match &arm.pat {
                        Pat::TupleStruct(it) => Some(&it.path),
                        Pat::Struct(it) => Some(&it.path),
                        Pat::Path(it) => Some(&it.path),
                        _ => None,
                    };
                    let variant = path.and_then(|path| path.segments.last());
                    if let (Some(variant), Ok(number)) = (variant, number(&arm.body)) {
                        self.0.push((variant.ident.to_string(), number));
                    }
                }
            }
        }
        let Type::Path(of) = &*block.self_ty else { return Ok(()) };
        let of = of.path.segments.last().map(|it| it.ident.to_string()).unwrap_or_default();
        for item in &block.items {
            let syn::ImplItem::Fn(it) = item else { continue };
            if it.sig.ident == "code" {
                let mut arms = Arms::default();
                arms.visit_block(&it.block);
                if arms.0.is_empty() || it.block.stmts.iter().any(|it| !matches!(it, Stmt::Expr(..))) {
                    bail!("the code of {of} is more than a match");
                }
                let name = |variant: &str| format!("COFFERDAM_{}_{}", screaming(&of), screaming(variant));
                self.constants.extend(arms.0.iter().map(|(variant, number)| (name(variant), *number)));
            }
        }
        Ok(())
    }
}

/// Types of the library that C has names for.
#[derive(Default)]
struct Names<'f> {
    structs: Vec<String>,
    unions: BTreeMap<String, &'f Type>,
}

impl Names<'_> {
    fn of_struct(&self, name: &str) -> String {
        format!("cofferdam_{}", screaming(name).to_lowercase())
    }

    fn result(&self, output: &ReturnType) -> Result<String> {
        match output {
            ReturnType::Default => Ok("void".to_owned()),
            ReturnType::Type(_, it) => self.c(it),
        }
    }

    /// The type that C has for one of Rust.
    fn c(&self, it: &Type) -> Result<String> {
        match it {
            Type::Ptr(it) => {
                let constant = if matches!(it.mutability, PointerMutability::Const(_)) { "const " } else { "" };
                Ok(format!("__typeof__({constant}{} *)", self.c(&it.elem)?))
            }
            Type::Array(it) => {
                let (of, count) = (self.c(&it.elem)?, &it.len);
                let count = match count {
                    Expr::Path(it) => it.path.segments.last().map(|it| it.ident.to_string()).unwrap_or_default(),
                    other => number(other)?.to_string(),
                };
                Ok(format!("__typeof__({of}[{count}])"))
            }
            Type::FnPtr(it) => {
                let takes = it.inputs.iter().map(|it| self.c(&it.ty)).collect::<Result<Vec<_>>>()?;
                Ok(format!("__typeof__({} (*)({}))", self.result(&it.output)?, takes.join(", ")))
            }
            Type::Path(it) => self.named(&it.path),
            _ => bail!("C has no such type"),
        }
    }

    fn named(&self, path: &syn::Path) -> Result<String> {
        let last = path.segments.last().context("a path without a name")?;
        // What is elsewhere, C does not look into.
        if path.segments.len() > 1 && path.segments.first().is_some_and(|it| it.ident != "core") {
            return Ok("void".to_owned());
        }
        let within = || match &last.arguments {
            syn::PathArguments::AngleBracketed(it) => match it.args.first() {
                Some(syn::GenericArgument::Type(it)) => self.c(it),
                _ => bail!("{} of nothing", last.ident),
            },
            _ => bail!("{} of nothing", last.ident),
        };
        let name = last.ident.to_string();
        Ok(match name.as_str() {
            "u8" | "u16" | "u32" | "u64" => format!("uint{}_t", &name[1..]),
            "i32" => "int32_t".to_owned(),
            "usize" => "size_t".to_owned(),
            "c_char" => "char".to_owned(),
            "c_void" => "void".to_owned(),
            // A function that may be null; memory that need not hold a value.
            "Option" | "MaybeUninit" => within()?,
            _ if self.structs.contains(&name) => format!("struct {}", self.of_struct(&name)),
            _ => match self.unions.get(&name) {
                Some(words) => self.c(words)?,
                None => bail!("C has no type for {name}"),
            },
        })
    }
}

/// `NoMsiX` becomes `NO_MSI_X`.
fn screaming(name: &str) -> String {
    let mut screaming = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !screaming.is_empty() {
            screaming.push('_');
        }
        screaming.extend(c.to_uppercase());
    }
    screaming
}

fn number(it: &Expr) -> Result<u64> {
    match it {
        Expr::Lit(syn::ExprLit { lit: syn::Lit::Int(it), .. }) => Ok(it.base10_parse()?),
        _ => bail!("a constant that is no number"),
    }
}

fn parse(path: &Path) -> Result<File> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    syn::parse_file(&text).with_context(|| format!("{} is no Rust", path.display()))
}
