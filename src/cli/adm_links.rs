//! The registry: links in the run directory that say with which file a resource was configured, so
//! that a handler called without `-c` finds it (C8, L40, L109).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::adm_request::Request;
use super::adm_verbs::{Action, Verb};
use super::config_files::ConfigFiles;
use super::console::Setting;
use super::plan::Resource;
use crate::config::Config;

/// The files to read for a command: those named, or for a handler the registered one.
#[must_use]
pub(super) fn files(verb: &Verb, request: &Request) -> ConfigFiles {
    let registered = || {
        let word = request.targets.first().filter(|_| verb.action == Action::Handler)?;
        let link = match word.strip_prefix("minor-") {
            Some(minor) => minor_link(&request.setting, minor),
            None => resource_link(&request.setting, word.split('/').next().unwrap_or(word)),
        };
        link.exists().then(|| link.to_string_lossy().into_owned())
    };
    let mut files = ConfigFiles::new(request.config_file.as_deref());
    if files.main.is_none() {
        files.main = registered();
    }
    files.appended.clone_from(&request.appended);
    files
}

/// Leaves the links for these resources. A run directory that cannot be written is no reason to fail.
pub(super) fn register<'a>(
    resources: impl Iterator<Item = &'a Resource>,
    config: &Config,
    files: &ConfigFiles,
    setting: &Setting,
) {
    if files.main.as_deref() == Some("-") {
        return;
    }
    for resource in resources {
        for link in links(resource, setting) {
            let _ = fs::remove_file(&link);
            let _ = symlink(&config.path, &link);
        }
    }
}

/// Removes a resource's links.
pub(super) fn unregister(resource: &Resource, setting: &Setting) {
    for link in links(resource, setting) {
        let _ = fs::remove_file(link);
    }
}

fn links(resource: &Resource, setting: &Setting) -> Vec<PathBuf> {
    let minors = resource.volumes.iter().map(|volume| minor_link(setting, &volume.minor.to_string()));
    minors.chain([resource_link(setting, &resource.name)]).collect()
}

fn minor_link(setting: &Setting, minor: &str) -> PathBuf {
    setting.run_dir.join(format!("drbd-minor-{}.conf", plain(minor)))
}

fn resource_link(setting: &Setting, resource: &str) -> PathBuf {
    setting.run_dir.join(format!("drbd-resource-{}.conf", plain(resource)))
}

/// A name that cannot lead out of the run directory.
fn plain(name: &str) -> String {
    name.replace('/', "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::plan::Volume;

    #[test]
    fn a_handler_finds_the_file_its_resource_was_configured_with() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("t.conf");
        let host = |name: &str, ip: &str| {
            format!("on {name} {{ device minor 1; disk /dev/a; address {ip}:1; meta-disk internal; }}")
        };
        let text = format!("resource r0 {{ {} {} }}", host("a", "10.0.0.1"), host("b", "10.0.0.2"));
        fs::write(&file, text).unwrap();
        let setting = Setting { program: "urbdadm".into(), run_dir: dir.path().into(), node: "a".into() };
        let named = ConfigFiles::new(file.to_str());
        let config = named.load().unwrap();
        let volumes = vec![Volume { minor: 1, ..Volume::default() }];
        let resource = Resource { name: "r0".into(), volumes, ..Resource::default() };
        register(std::iter::once(&resource), &config, &named, &setting);

        let found = |line: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let request = Request::parse(&words, &setting).unwrap();
            files(request.verb.unwrap(), &request).main
        };
        for line in ["split-brain minor-1", "fence-peer r0"] {
            let path = found(line).unwrap();
            assert_eq!(fs::canonicalize(path).unwrap(), fs::canonicalize(&file).unwrap(), "{line}");
        }
        assert_eq!(found("up r0"), None, "no handler: the default file");
        unregister(&resource, &setting);
        assert_eq!(found("split-brain minor-1"), None);
    }
}
