//! A backend, from `xtask/templates/isa`.

use std::path::Path;

use anyhow::Result;

use super::tree::{Changes, after_last};

/// Where the codec cases learn of formats.
const COLUMN: &str = "tests/backend-fake/src/bin/host-radix.rs";

/// Adds the package, to the workspace too, and its format to the codec cases of column `host-radix`.
pub fn changes(root: &Path, name: &str) -> Result<Changes> {
    let package = format!("backend-{name}");
    let mut changes = Changes::to(root);
    changes.must_be_free(&package)?;
    for (file, text) in [
        ("Cargo.toml", include_str!("../../templates/isa/Cargo.toml.in")),
        ("README.md", include_str!("../../templates/isa/README.md.in")),
        ("src/lib.rs", include_str!("../../templates/isa/src/lib.rs.in")),
        ("src/format.rs", include_str!("../../templates/isa/src/format.rs")),
    ] {
        changes.put(&format!("{package}/{file}"), text.replace("NAME", name));
    }
    changes.edit("Cargo.toml", |text| {
        let text = after_last(text, "    \"backend-", &format!("    \"{package}\","))?;
        let text = after_last(&text, "backend-", &format!("{package} = {{ path = \"{package}\" }}"))?;
        let (before, rest) = text.split_once("default-members = [")?;
        Some(format!("{before}default-members = [\"{package}\", {rest}"))
    })?;
    changes.edit("tests/backend-fake/Cargo.toml", |text| {
        after_last(text, "backend-", &format!("{package}.workspace = true"))
    })?;
    changes.edit(COLUMN, |text| {
        let module = package.replace('-', "_");
        after_last(text, "    Codec::of::", &format!("    Codec::of::<{module}::format::Entries>(\"{name}\"),"))
    })?;
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{COLUMN, changes};
    use crate::workspace;

    #[test]
    fn a_new_backend_is_a_member_and_its_format_a_codec() {
        let new = changes(&workspace::root(), "rv-64").unwrap();
        let cargo: toml::Table = new.of("Cargo.toml").parse().unwrap();
        for list in ["members", "default-members"] {
            let members = cargo["workspace"][list].as_array().unwrap();
            assert!(members.iter().any(|member| member.as_str() == Some("backend-rv-64")), "{list}");
        }
        assert!(cargo["workspace"]["dependencies"].get("backend-rv-64").is_some());
        assert!(new.of(COLUMN).contains("    Codec::of::<backend_rv_64::format::Entries>(\"rv-64\"),\n"));
        let fake: toml::Table = new.of("tests/backend-fake/Cargo.toml").parse().unwrap();
        assert!(fake["dependencies"].get("backend-rv-64").is_some());
        let left = new.paths().filter(|path| new.of(&path.to_string_lossy()).contains("NAME"));
        assert_eq!(left.collect::<Vec<_>>(), Vec::<&Path>::new(), "a place for the name is left");
    }

    #[test]
    fn a_name_that_is_taken_is_refused() {
        let refused = changes(&workspace::root(), "ppc64").err().unwrap().to_string();
        assert_eq!(refused, "there is a backend-ppc64 already");
    }
}
