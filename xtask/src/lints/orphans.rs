//! A Rust file that no module names is not compiled, so it is wrong without anyone noticing.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::source::Source;
use super::{Problem, Tree};

/// The lint.
pub fn check(tree: &Tree) -> Vec<Problem> {
    let files: Vec<&Source> = tree.rust().filter(|file| !file.package().is_empty()).collect();
    let mut reached: BTreeSet<PathBuf> = BTreeSet::new();
    let mut open: Vec<&Source> = files.iter().copied().filter(|file| is_root(file)).collect();
    while let Some(file) = open.pop() {
        if !reached.insert(file.path.clone()) {
            continue;
        }
        let named = modules(file);
        open.extend(files.iter().copied().filter(|other| named.contains(&other.path)));
    }
    let orphans = files.iter().filter(|file| !reached.contains(&file.path));
    orphans.map(|file| Problem::error(&file.path, 0, "no module names this file")).collect()
}

/// Files that cargo compiles by themselves.
fn is_root(file: &Source) -> bool {
    let package = file.package();
    let Ok(inside) = file.path.strip_prefix(&package) else { return false };
    let parts: Vec<String> = inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    match parts.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["src", "lib.rs" | "main.rs"] | ["src", "bin", _] | ["src", "bin", _, "main.rs"] => true,
        ["tests" | "benches" | "examples", file] => file.ends_with(".rs"),
        _ => false,
    }
}

/// The files that this file's modules may be.
fn modules(file: &Source) -> BTreeSet<PathBuf> {
    let folder = file.path.parent().unwrap_or(Path::new(""));
    let stem = file.path.file_stem().unwrap_or_default();
    let plain = is_root(file) || stem == "mod";
    let base = if plain { folder.to_owned() } else { folder.join(stem) };
    let mut named = BTreeSet::new();
    // More than one where the target decides which.
    let mut paths: Vec<&str> = Vec::new();
    for (code, text) in file.code.lines().zip(file.text.lines()) {
        let attribute = text.trim();
        if (attribute.starts_with("#[path = ") || attribute.starts_with("#[cfg_attr("))
            && let Some((_, rest)) = attribute.split_once("path = \"")
        {
            paths.extend(rest.split('"').next());
        }
        let code = code.trim();
        let Some(name) = code.strip_suffix(';').and_then(|code| code.rsplit_once("mod ")).map(|(_, name)| name.trim())
        else {
            continue;
        };
        if paths.is_empty() {
            named.extend([base.join(format!("{name}.rs")), base.join(name).join("mod.rs")]);
        }
        named.extend(paths.drain(..).map(|given| plainly(&folder.join(given))));
    }
    named
}

/// The path without steps up.
fn plainly(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut path, part| {
        if part == Component::ParentDir {
            path.pop()
        } else {
            path.push(part);
            true
        };
        path
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Tree, found};
    use super::check;

    #[test]
    fn files_that_no_module_names_are_found() {
        let tree = Tree::of(&[
            (
                "p/src/lib.rs",
                "mod a;\npub mod b;\n// mod c;\n#[cfg(test)]\n#[path = \"odd.rs\"]\nmod tests;\n\
             #[cfg_attr(x, path = \"x.rs\")]\n#[cfg_attr(y, path = \"y.rs\")]\nmod z;",
            ),
            ("p/src/x.rs", ""),
            ("p/src/y.rs", ""),
            ("p/src/a.rs", "pub(crate) mod inner;"),
            ("p/src/a/inner.rs", ""),
            ("p/src/b/mod.rs", "mod deep;"),
            ("p/src/b/deep.rs", ""),
            ("p/src/c.rs", ""),
            ("p/src/odd.rs", ""),
            ("q/src/main.rs", "#[path = \"../template/src/t.rs\"]\nmod t;"),
            ("q/template/src/t.rs", ""),
            ("p/src/bin/tool.rs", ""),
            ("p/tests/whole.rs", ""),
        ]);
        assert_eq!(found(&check(&tree)), ["p/src/c.rs:0: no module names this file"]);
    }
}
