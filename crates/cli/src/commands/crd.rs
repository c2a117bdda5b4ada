//! `tidegate crd`.

use crate::failure::Exit;
use crate::output::Output;

/// Prints the definition of the custom resource, as YAML for people and as JSON for programs; kubectl takes both.
pub(super) fn run(output: &Output) -> anyhow::Result<Exit> {
    let definition = tidegate_kube::resource::definition();
    output.result(&tidegate_runtime::spec::to_yaml(&definition), &definition)?;
    Ok(Exit::Done)
}
