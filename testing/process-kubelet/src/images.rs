//! Images: the registry is a folder in which the file `REPOSITORY:TAG` is the image's entry point, a program or a link to
//! one.
//!
//! As with real images a node keeps what it has pulled, whatever becomes of the tag since, and asks the registry as the
//! container's pull policy says.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context as _, Result, ensure};
use tokio::time::sleep;

use crate::Host;
use crate::faults::PullFault;

/// What one node has pulled: image to program.
#[derive(Debug, Default)]
pub(crate) struct Images {
    pulled: Mutex<BTreeMap<String, PathBuf>>,
}

// === impl Images ===

impl Images {
    /// The program that the node has of this image, when the policy does not ask the registry.
    pub(crate) fn present(&self, image: &str, policy: &str) -> Option<PathBuf> {
        if policy == "Always" {
            return None;
        }
        let pulled = self.pulled.lock().expect("no panic holds this lock");
        pulled.get(&full_name(image)).cloned()
    }

    /// Takes the image from the registry.
    pub(crate) async fn pull(&self, host: &Host, image: &str) -> Result<PathBuf> {
        let name = full_name(image);
        match host.faults.pull(&name) {
            Some(PullFault::Fail) => anyhow::bail!("failed to pull {name}: the registry is away"),
            Some(PullFault::Slow(delay)) => sleep(delay).await,
            None => {}
        }
        let program = look_up(&host.root.join("images"), &name)?;
        self.pulled.lock().expect("no panic holds this lock").insert(name, program.clone());
        Ok(program)
    }
}

/// The name with its tag or digest.
fn full_name(image: &str) -> String {
    let last = image.rsplit_once('/').map_or(image, |(_, last)| last);
    if last.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}

fn look_up(registry: &Path, name: &str) -> Result<PathBuf> {
    let file = registry.join(name);
    let program = file.canonicalize().with_context(|| format!("{name}: not found"))?;
    let mode =
        fs::metadata(&program).with_context(|| format!("{name}: unreadable"))?.permissions().mode();
    ensure!(program.is_file() && mode & 0o111 != 0, "{name}: not a program");
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_without_a_tag_is_the_latest() {
        assert_eq!(full_name("tidegate"), "tidegate:latest");
        assert_eq!(full_name("localhost:5000/tidegate"), "localhost:5000/tidegate:latest");
        assert_eq!(full_name("localhost:5000/tidegate:1.2"), "localhost:5000/tidegate:1.2");
        assert_eq!(full_name("a/tidegate@sha256:0"), "a/tidegate@sha256:0");
    }
}
