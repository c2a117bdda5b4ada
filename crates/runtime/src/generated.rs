//! Compares generated pages with what is in the repository.

use std::path::Path;

/// Fails when a page of the repository is not what the source renders now; with `TIDEGATE_BLESS` set, writes it.
pub(crate) fn assert_up_to_date(page: &str, rendered: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(page);
    if std::env::var_os("TIDEGATE_BLESS").is_some() {
        std::fs::write(&path, rendered).expect("the page can be written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == rendered,
        "{page} is out of date: run TIDEGATE_BLESS=1 cargo test -p tidegate-runtime up_to_date"
    );
}
