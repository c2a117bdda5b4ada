//! A pod's volumes as directories on the host.
//!
//! [`sync`] is idempotent and runs again while the pod lives, so ConfigMaps, Secrets, downward API files and
//! service-account tokens follow their sources as with a real kubelet.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, PersistentVolume, PersistentVolumeClaim, Pod, ServiceAccount,
    ServiceAccountTokenProjection, Volume, VolumeProjection,
};
use kube::api::PostParams;
use kube::{Api, ResourceExt as _};

use crate::environment::{Source, field, resource_field};
use crate::node::Node;

/// Relative path to content and mode.
type Files = BTreeMap<String, (Vec<u8>, u32)>;

/// Creates or refreshes every volume below `dir`; volume name to host directory.
pub(crate) async fn sync(
    node: &Node,
    pod: &Pod,
    ip: &str,
    dir: &Path,
) -> Result<BTreeMap<String, PathBuf>> {
    let builder = Builder {
        node,
        pod,
        ip,
        source: Source { node, namespace: pod.namespace().unwrap_or_default() },
    };
    let mut all = BTreeMap::new();
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        let path = builder.volume(volume, &dir.join("volumes").join(&volume.name)).await;
        all.insert(volume.name.clone(), path.with_context(|| format!("volume {}", volume.name))?);
    }
    Ok(all)
}

struct Builder<'a> {
    node: &'a Node,
    pod: &'a Pod,
    ip: &'a str,
    source: Source<'a>,
}

// === impl Builder ===

impl Builder<'_> {
    async fn volume(&self, volume: &Volume, dir: &Path) -> Result<PathBuf> {
        if let Some(claim) = &volume.persistent_volume_claim {
            return self.claim(&claim.claim_name).await;
        }
        if let Some(host) = &volume.host_path {
            if host.type_.as_deref() == Some("DirectoryOrCreate") {
                fs::create_dir_all(&host.path)?;
            }
            return Ok(host.path.clone().into());
        }
        fs::create_dir_all(dir)?;
        if volume.empty_dir.is_some() {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o777))?;
            return Ok(dir.to_owned());
        }
        let files = if let Some(map) = &volume.config_map {
            let data = self.source.config_map(&map.name, map.optional).await?;
            select(data, map.items.as_deref(), map.default_mode)?
        } else if let Some(secret) = &volume.secret {
            let name = secret.secret_name.as_deref().unwrap_or_default();
            select(
                self.source.secret(name, secret.optional).await?,
                secret.items.as_deref(),
                secret.default_mode,
            )?
        } else if let Some(downward) = &volume.downward_api {
            self.downward(downward.items.as_deref().unwrap_or_default(), downward.default_mode)?
        } else if let Some(projected) = &volume.projected {
            let mut files = Files::new();
            for source in projected.sources.iter().flatten() {
                files.extend(self.projection(source, projected.default_mode, dir).await?);
            }
            files
        } else {
            bail!("unsupported type of volume");
        };
        write(dir, &files)?;
        Ok(dir.to_owned())
    }

    /// The host directory behind a bound claim. A ReadWriteOncePod claim has one pod at a time, also when both pods are on
    /// this node, where the scheduler is not asked again.
    async fn claim(&self, name: &str) -> Result<PathBuf> {
        let full = format!("{}/{name}", self.pod.namespace().unwrap_or_default());
        let is_broken = self.node.host.faults.mount(&full);
        ensure!(!is_broken, "MountVolume.SetUp failed for claim {name}: input/output error");
        let claims: Api<PersistentVolumeClaim> =
            Api::namespaced(self.node.client.clone(), &self.pod.namespace().unwrap_or_default());
        let claim = claims.get(name).await?;
        let spec = claim.spec.clone().unwrap_or_default();
        let bound =
            claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
        let volume = spec
            .volume_name
            .filter(|_| bound)
            .with_context(|| format!("claim {name} is not bound"))?;
        if spec.access_modes.iter().flatten().any(|mode| mode == "ReadWriteOncePod") {
            let (claim, pod) =
                (claim.uid().unwrap_or_default(), self.pod.uid().unwrap_or_default());
            self.node.take_claim(&claim, &pod)?;
        }
        let volumes: Api<PersistentVolume> = Api::all(self.node.client.clone());
        let source = volumes.get(&volume).await?.spec.unwrap_or_default();
        let path =
            source.csi.map(|csi| csi.volume_handle).or(source.host_path.map(|host| host.path));
        let path = PathBuf::from(
            path.or(source.local.map(|local| local.path)).context("unsupported volume source")?,
        );
        ensure!(path.is_dir(), "{} is not a directory", path.display());
        Ok(path)
    }

    async fn projection(
        &self,
        source: &VolumeProjection,
        mode: Option<i32>,
        dir: &Path,
    ) -> Result<Files> {
        if let Some(token) = &source.service_account_token {
            self.token(token, dir).await
        } else if let Some(map) = &source.config_map {
            select(
                self.source.config_map(&map.name, map.optional).await?,
                map.items.as_deref(),
                mode,
            )
        } else if let Some(secret) = &source.secret {
            select(
                self.source.secret(&secret.name, secret.optional).await?,
                secret.items.as_deref(),
                mode,
            )
        } else if let Some(downward) = &source.downward_api {
            self.downward(downward.items.as_deref().unwrap_or_default(), mode)
        } else {
            bail!("unsupported projection")
        }
    }

    /// A token bound to the pod; renewed after 80 % of its life.
    async fn token(&self, wanted: &ServiceAccountTokenProjection, dir: &Path) -> Result<Files> {
        let lifetime = wanted.expiration_seconds.unwrap_or(3600);
        let file = dir.join(&wanted.path);
        let renew = Duration::from_secs(lifetime.unsigned_abs() * 8 / 10);
        let age = fs::metadata(&file)
            .and_then(|meta| meta.modified())
            .ok()
            .and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age < renew) {
            return Ok(BTreeMap::from([(wanted.path.clone(), (fs::read(&file)?, 0o644))]));
        }
        let spec = self.pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref());
        let accounts: Api<ServiceAccount> =
            Api::namespaced(self.node.client.clone(), &self.pod.namespace().unwrap_or_default());
        let bound = BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(self.pod.name_any()),
            uid: self.pod.uid(),
        };
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: wanted.audience.clone().into_iter().collect(),
                expiration_seconds: Some(lifetime),
                bound_object_ref: Some(bound),
            },
            ..TokenRequest::default()
        };
        let answer = accounts
            .create_token_request(spec.unwrap_or("default"), &PostParams::default(), &request)
            .await?;
        let token = answer.status.context("no token in the answer")?.token;
        Ok(BTreeMap::from([(wanted.path.clone(), (token.into_bytes(), 0o644))]))
    }

    fn downward(
        &self,
        items: &[DownwardAPIVolumeFile],
        default_mode: Option<i32>,
    ) -> Result<Files> {
        let mut files = Files::new();
        for item in items {
            let value = match (&item.field_ref, &item.resource_field_ref) {
                (Some(wanted), _) => field(self.pod, &self.node.name, self.ip, &wanted.field_path)?,
                (_, Some(wanted)) => {
                    let name = wanted.container_name.as_deref();
                    let containers = self.pod.spec.iter().flat_map(|spec| &spec.containers);
                    let container = containers
                        .into_iter()
                        .find(|container| Some(container.name.as_str()) == name);
                    resource_field(
                        container.context("resourceFieldRef names no container")?,
                        wanted,
                    )?
                }
                _ => String::new(),
            };
            files.insert(
                item.path.clone(),
                (value.into_bytes(), mode_of(item.mode.or(default_mode))),
            );
        }
        Ok(files)
    }
}

fn select(
    mut data: BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    mode: Option<i32>,
) -> Result<Files> {
    let Some(items) = items else {
        return Ok(data.into_iter().map(|(key, value)| (key, (value, mode_of(mode)))).collect());
    };
    let pick = |item: &KeyToPath| {
        let value = data.remove(&item.key).with_context(|| format!("no key {}", item.key))?;
        Ok((item.path.clone(), (value, mode_of(item.mode.or(mode)))))
    };
    items.iter().map(pick).collect()
}

fn mode_of(mode: Option<i32>) -> u32 {
    mode.map_or(0o644, i32::cast_unsigned)
}

/// Each file appears whole (write aside, rename), but not all of them at the same moment.
fn write(dir: &Path, files: &Files) -> Result<()> {
    for (path, (content, mode)) in files {
        let target = dir.join(path);
        if fs::read(&target).ok().as_ref() == Some(content) {
            continue;
        }
        fs::create_dir_all(target.parent().unwrap_or(dir))?;
        let aside = dir.join("..new");
        fs::write(&aside, content)?;
        fs::set_permissions(&aside, fs::Permissions::from_mode(*mode))?;
        fs::rename(&aside, &target)?;
    }
    Ok(())
}
