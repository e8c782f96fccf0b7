//! The configuration as XML, in the form `drbdadm dump-xml` prints it (C105).

use std::fmt::Write;

use super::dump::{Dump, ORDER, in_order};
use super::model::{Host, HostKind, MetaDisk, Resource, Sections, Volume, Written};
use super::options::Section;

impl Dump<'_> {
    /// All of it: `dump-xml all`.
    #[must_use]
    pub fn xml_all(&self) -> String {
        let mut xml = Xml::default();
        xml.open(&format!("config file=\"{}\"", escape(&self.config.path)));
        if self.has_global() {
            xml.open("global");
            if self.config.global.options.disable_ip_verification {
                xml.line("<disable-ip-verification/>");
            }
            if let Some(count) = self.minor_count() {
                xml.line(&format!("<minor-count count=\"{count}\"/>"));
            }
            let refresh = self.config.global.options.dialog_refresh_s;
            if refresh != 1 {
                xml.line(&format!("<dialog-refresh refresh=\"{refresh}\"/>"));
            }
            xml.close("global");
        }
        if let Some(common) = &self.config.common {
            xml.open("common");
            sections(&mut xml, common);
            xml.close("common");
        }
        for resource in &self.config.resources {
            self.xml_body(&mut xml, resource);
        }
        xml.close("config");
        xml.out
    }

    /// One resource: `dump-xml NAME`.
    #[must_use]
    pub fn xml_resource(&self, resource: &Resource) -> String {
        let mut xml = Xml::default();
        self.xml_body(&mut xml, resource);
        xml.out
    }

    fn xml_body(&self, xml: &mut Xml, resource: &Resource) {
        let (file, line) = &resource.defined_at;
        let place = format!("{}:{line}", escape(file));
        xml.open(&format!("resource name=\"{}\" conf-file-line=\"{place}\"", escape(&resource.name)));
        for host in &resource.hosts {
            self.xml_host(xml, host);
        }
        sections(xml, if self.expanded { &resource.applied } else { &resource.written });
        xml.close("resource");
    }

    fn xml_host(&self, xml: &mut Xml, host: &Host) {
        xml.open(&match host.kind {
            HostKind::Named => format!("host name=\"{}\"", escape(&host.names.join(" "))),
            HostKind::Floating => "host floating=\"1\"".to_owned(),
        });
        section(xml, "options", &host.options);
        for volume in &host.volumes {
            self.xml_volume(xml, volume);
        }
        let address = &host.address;
        let (family, port, ip) = (address.family.as_str(), address.port, escape(&address.text));
        xml.line(&format!("<address family=\"{family}\" port=\"{port}\">{ip}</address>"));
        xml.close("host");
    }

    fn xml_volume(&self, xml: &mut Xml, volume: &Volume) {
        xml.open(&format!("volume vnr=\"{}\"", volume.id));
        section(xml, "disk", if self.expanded { &volume.applied } else { &volume.written });
        let name = self.device_name(volume).unwrap_or_default();
        xml.line(&format!("<device minor=\"{}\">{}</device>", volume.device.minor, escape(&name)));
        xml.line(&format!("<disk>{}</disk>", escape(volume.disk.as_deref().unwrap_or("none"))));
        xml.line(&match &volume.meta {
            MetaDisk::Internal => "<meta-disk>internal</meta-disk>".to_owned(),
            MetaDisk::Flexible(path) => format!("<meta-disk>{}</meta-disk>", escape(path)),
            MetaDisk::Indexed(path, slot) => {
                format!("<meta-disk index=\"{slot}\">{}</meta-disk>", escape(path))
            }
        });
        xml.close("volume");
    }
}

/// Lines, indented by the elements that are open.
#[derive(Default)]
struct Xml {
    out: String,
    depth: usize,
}

impl Xml {
    fn line(&mut self, text: &str) {
        let _ = writeln!(self.out, "{:indent$}{text}", "", indent = self.depth * 4);
    }

    fn open(&mut self, tag: &str) {
        self.line(&format!("<{tag}>"));
        self.depth += 1;
    }

    fn close(&mut self, tag: &str) {
        self.depth = self.depth.saturating_sub(1);
        self.line(&format!("</{tag}>"));
    }
}

fn sections(xml: &mut Xml, all: &Sections) {
    for kind in ORDER {
        if kind == Section::Proxy && !all.plugins.is_empty() {
            xml.open("section name=\"proxy\"");
            options(xml, &all.proxy);
            xml.open("section name=\"plugin\"");
            for line in &all.plugins {
                xml.line(&format!("<option name=\"{}\"/>", escape(line)));
            }
            xml.close("section");
            xml.close("section");
        } else {
            section(xml, kind.keyword(), all.list(kind));
        }
    }
}

fn section(xml: &mut Xml, keyword: &str, list: &[Written]) {
    if list.is_empty() {
        return;
    }
    xml.open(&format!("section name=\"{keyword}\""));
    options(xml, list);
    xml.close("section");
}

fn options(xml: &mut Xml, list: &[Written]) {
    for written in in_order(list) {
        xml.line(&match &written.value {
            None => format!("<option name=\"{}\"/>", written.spec.name),
            Some(value) => format!("<option name=\"{}\" value=\"{}\"/>", written.spec.name, escape(value)),
        });
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
