//! Environment variables and downward API fields of a container.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, EnvVarSource, Pod, ResourceFieldSelector, Secret,
};
use kube::{Api, ResourceExt as _};

use crate::node::Node;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The variables in order: the runtime's, `envFrom`, then `env` with `$(NAME)` replaced.
pub(crate) async fn variables(
    node: &Node,
    pod: &Pod,
    container: &Container,
    ip: &str,
) -> Result<Vec<(String, String)>> {
    let source = Source { node, namespace: pod.namespace().unwrap_or_default() };
    let mut all = vec![
        ("PATH".to_owned(), PATH.to_owned()),
        ("HOSTNAME".to_owned(), pod.name_any()),
        ("KUBERNETES_SERVICE_HOST".to_owned(), node.host.api.0.clone()),
        ("KUBERNETES_SERVICE_PORT".to_owned(), node.host.api.1.to_string()),
    ];
    for from in container.env_from.iter().flatten() {
        let data = match (&from.config_map_ref, &from.secret_ref) {
            (Some(map), _) => source.config_map(&map.name, map.optional).await?,
            (_, Some(secret)) => source.secret(&secret.name, secret.optional).await?,
            _ => BTreeMap::new(),
        };
        let prefix = from.prefix.clone().unwrap_or_default();
        all.extend(data.into_iter().map(|(key, value)| (format!("{prefix}{key}"), text(&value))));
    }
    for variable in container.env.iter().flatten() {
        let value = match &variable.value_from {
            None => Some(expand(variable.value.as_deref().unwrap_or_default(), &all)),
            Some(from) => source.value(from, pod, container, ip).await?,
        };
        all.extend(value.map(|value| (variable.name.clone(), value)));
    }
    Ok(all)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Replaces `$(NAME)` by the variable's value; an unknown name stays as it is, `$$` is a dollar.
pub(crate) fn expand(template: &str, variables: &[(String, String)]) -> String {
    let (mut out, mut rest) = (String::new(), template);
    while let Some(at) = rest.find('$') {
        out += &rest[..at];
        rest = &rest[at + 1..];
        if let Some(tail) = rest.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) =
            rest.strip_prefix('(').and_then(|inner| inner.split_once(')'))
        {
            match variables.iter().rev().find(|(key, _)| key == name) {
                Some((_, value)) => out += value,
                None => out.extend(["$(", name, ")"]),
            }
            rest = tail;
        } else {
            out.push('$');
        }
    }
    out + rest
}

/// The value of a downward API field.
pub(crate) fn field(pod: &Pod, node: &str, ip: &str, path: &str) -> Result<String> {
    let lines = |map: &BTreeMap<String, String>| {
        map.iter().map(|(key, value)| format!("{key}={value:?}")).collect::<Vec<_>>().join("\n")
    };
    let entry = |prefix: &str, map: &BTreeMap<String, String>| {
        let key = path.strip_prefix(prefix)?.strip_prefix("['")?.strip_suffix("']")?;
        Some(map.get(key).cloned().unwrap_or_default())
    };
    let account = || pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
    Ok(match path {
        "metadata.name" => pod.name_any(),
        "metadata.namespace" => pod.namespace().unwrap_or_default(),
        "metadata.uid" => pod.uid().unwrap_or_default(),
        "metadata.labels" => lines(pod.labels()),
        "metadata.annotations" => lines(pod.annotations()),
        "spec.nodeName" => node.to_owned(),
        "spec.serviceAccountName" => account().unwrap_or_default(),
        "status.podIP" | "status.podIPs" | "status.hostIP" | "status.hostIPs" => ip.to_owned(),
        _ => entry("metadata.labels", pod.labels())
            .or_else(|| entry("metadata.annotations", pod.annotations()))
            .with_context(|| format!("unsupported field {path}"))?,
    })
}

/// `limits.cpu` and its kin in units of the divisor, rounded up; what is unset is the node's 64 CPU and 256 GiB.
pub(crate) fn resource_field(
    container: &Container,
    wanted: &ResourceFieldSelector,
) -> Result<String> {
    let (kind, name) = wanted
        .resource
        .split_once('.')
        .with_context(|| format!("bad resource {}", wanted.resource))?;
    let resources = container.resources.as_ref();
    let set = match kind {
        "limits" => resources.and_then(|all| all.limits.as_ref()),
        _ => resources.and_then(|all| all.requests.as_ref()),
    };
    let fallback = if name == "cpu" { "64" } else { "256Gi" };
    let value =
        quantity(set.and_then(|set| set.get(name)).map_or(fallback, |quantity| &quantity.0))?;
    let divisor = wanted.divisor.as_ref().map_or(Ok(1.0), |divisor| quantity(&divisor.0))?;
    let divisor = if divisor > 0.0 { divisor } else { 1.0 };
    Ok((value / divisor).ceil().to_string())
}

fn quantity(text: &str) -> Result<f64> {
    let digits = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let scale = match &text[digits..] {
        "" => 1.0,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "Ki" => 1024.0,
        "Mi" => 1024f64.powi(2),
        "Gi" => 1024f64.powi(3),
        "Ti" => 1024f64.powi(4),
        other => bail!("unsupported suffix of a quantity: {other}"),
    };
    Ok(text[..digits].parse::<f64>()? * scale)
}

/// Reads ConfigMaps and Secrets as the node, so the Node authorizer has its say.
pub(crate) struct Source<'a> {
    pub(crate) node: &'a Node,
    pub(crate) namespace: String,
}

// === impl Source ===

impl Source<'_> {
    async fn value(
        &self,
        from: &EnvVarSource,
        pod: &Pod,
        container: &Container,
        ip: &str,
    ) -> Result<Option<String>> {
        let (mut data, key, optional) = if let Some(wanted) = &from.field_ref {
            return field(pod, &self.node.name, ip, &wanted.field_path).map(Some);
        } else if let Some(wanted) = &from.resource_field_ref {
            return resource_field(container, wanted).map(Some);
        } else if let Some(wanted) = &from.config_map_key_ref {
            let data = self.config_map(&wanted.name, wanted.optional).await?;
            (data, &wanted.key, wanted.optional)
        } else if let Some(wanted) = &from.secret_key_ref {
            let data = self.secret(&wanted.name, wanted.optional).await?;
            (data, &wanted.key, wanted.optional)
        } else {
            bail!("unsupported source of a variable");
        };
        let value = data.remove(key).map(|value| text(&value));
        if value.is_none() && optional != Some(true) {
            bail!("couldn't find key {key}");
        }
        Ok(value)
    }

    pub(crate) async fn config_map(
        &self,
        name: &str,
        optional: Option<bool>,
    ) -> Result<BTreeMap<String, Vec<u8>>> {
        let api: Api<ConfigMap> = Api::namespaced(self.node.client.clone(), &self.namespace);
        let Some(map) = required(api.get_opt(name).await?, "configmap", name, optional)? else {
            return Ok(BTreeMap::new());
        };
        let binary = map.binary_data.into_iter().flatten().map(|(key, value)| (key, value.0));
        Ok(map
            .data
            .into_iter()
            .flatten()
            .map(|(key, value)| (key, value.into_bytes()))
            .chain(binary)
            .collect())
    }

    pub(crate) async fn secret(
        &self,
        name: &str,
        optional: Option<bool>,
    ) -> Result<BTreeMap<String, Vec<u8>>> {
        let api: Api<Secret> = Api::namespaced(self.node.client.clone(), &self.namespace);
        let secret = required(api.get_opt(name).await?, "secret", name, optional)?;
        Ok(secret
            .and_then(|secret| secret.data)
            .into_iter()
            .flatten()
            .map(|(key, value)| (key, value.0))
            .collect())
    }
}

fn required<T>(
    found: Option<T>,
    kind: &str,
    name: &str,
    optional: Option<bool>,
) -> Result<Option<T>> {
    if found.is_none() && optional != Some(true) {
        bail!("{kind} {name:?} not found");
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names_are_replaced_and_others_stay() {
        let variables = [("A".to_owned(), "1".to_owned()), ("B".to_owned(), "2".to_owned())];
        assert_eq!(expand("$(A)-$(B)-$(C)-$$(A)-$", &variables), "1-2-$(C)-$(A)-$");
    }

    #[test]
    fn quantities_have_the_suffixes_of_kubernetes() {
        let read = |text| quantity(text).expect("the quantity is well");
        assert!((read("250m") - 0.25).abs() < 1e-9);
        assert!((read("1.5Gi") - 1.5 * 1024.0 * 1024.0 * 1024.0).abs() < 1e-3);
        assert!(quantity("3 apples").is_err());
    }
}
