//! The texts of `show` (L78) and `show-gi` (L93c), and of points in time (L84), pure.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::SystemTime;

use crate::config::options::{Kind, Section};
use crate::control::messages::{DiskConfig, Options, ResourceConfig};
use crate::node::command::MetaPlace;

/// How a resource was configured, in the configuration's language.
#[must_use]
pub fn resource(config: &ResourceConfig, defaults: bool) -> String {
    let mut text = format!("resource {} {{\n", quoted_if_needed(&config.name));
    section(&mut text, 4, "options", Section::Options, &config.options, defaults);
    if let Some(connection) = &config.connection {
        section(&mut text, 4, "net", Section::Net, &connection.options, defaults);
        let _ =
            writeln!(text, "    _remote_host {{\n        address\t\t\t{};\n    }}", address(connection.peer));
    }
    text.push_str("    _this_host {\n");
    if let Some(connection) = &config.connection {
        let _ = writeln!(text, "        address\t\t\t{};", address(connection.local));
    }
    for volume in &config.volumes {
        let _ = writeln!(text, "        volume {} {{", volume.volume);
        let _ = writeln!(text, "            device\t\t\tminor {};", volume.minor);
        if let Some(disk) = &volume.disk {
            let _ = writeln!(text, "            disk\t\t\t{};", quoted(&disk.disk));
            let _ = writeln!(text, "            meta-disk\t\t\t{};", meta_disk(disk));
            section(&mut text, 12, "disk", Section::Disk, &disk.options, defaults);
        }
        text.push_str("        }\n");
    }
    text.push_str("    }\n}\n");
    text
}

fn section(
    text: &mut String,
    indent: usize,
    title: &str,
    section: Section,
    options: &Options,
    defaults: bool,
) {
    let set = |name: &str| options.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let lines: Vec<String> = section
        .options()
        .filter_map(|spec| {
            let default = spec.default_text();
            let value = set(spec.name).or_else(|| default.clone().filter(|_| defaults))?;
            let shown = if matches!(spec.kind, Kind::Text { .. }) { quoted(&value) } else { value.clone() };
            let note = if default.as_ref() == Some(&value) { " # default" } else { "" };
            Some(format!("{:1$}{name:<16}\t{shown};{note}\n", "", indent + 4, name = spec.name))
        })
        .collect();
    if !lines.is_empty() {
        let _ = write!(text, "{:indent$}{title} {{\n{}{:indent$}}}\n", "", lines.concat(), "");
    }
}

fn meta_disk(disk: &DiskConfig) -> String {
    match disk.place {
        MetaPlace::Internal => "internal".to_owned(),
        MetaPlace::FlexExternal => quoted(&disk.meta),
        MetaPlace::Indexed(slot) => format!("{} [ {slot} ]", quoted(&disk.meta)),
    }
}

fn address(address: SocketAddr) -> String {
    format!("{} {address}", if address.is_ipv4() { "ipv4" } else { "ipv6" })
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Bare if it can be (C101).
#[must_use]
pub fn quoted_if_needed(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    if (1..=80).contains(&text.len()) && text.bytes().all(plain) { text.to_owned() } else { quoted(text) }
}

/// A point in time as `2026-11-22T23:00:31.123456+00:00`. Readers parse the offset: UTC is as good as
/// any, and needs no time zone data.
#[must_use]
pub fn timestamp(at: SystemTime) -> String {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = date(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}+00:00",
        second / 3600,
        second % 3600 / 60,
        second % 60,
        since.subsec_micros()
    )
}

/// The date of a day counted from 1970-01-01. Years are counted from March, so that the leap day is
/// their last, in eras of 400 years, which all have the same number of days.
const fn date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + if month <= 2 { 1 } else { 0 }, month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::control::messages::{ConnectionConfig, VolumeConfig};

    #[test]
    fn a_resource_is_shown_in_the_configurations_language() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let config = ResourceConfig {
            name: "r0".into(),
            options: vec![pair("cpu-mask", "2")],
            connection: Some(ConnectionConfig {
                local: "10.1.1.31:7789".parse().unwrap(),
                peer: "10.1.1.32:7789".parse().unwrap(),
                options: vec![pair("timeout", "50"), pair("protocol", "C")],
            }),
            volumes: vec![VolumeConfig {
                volume: 0,
                minor: 1,
                disk: Some(DiskConfig {
                    disk: "/dev/sda7".into(),
                    meta: "/dev/md".into(),
                    place: MetaPlace::Indexed(2),
                    options: vec![pair("al-extents", "300")],
                }),
            }],
        };
        let text = resource(&config, false);
        let expected = "resource r0 {
    options {
        cpu-mask        \t\"2\";
    }
    net {
        protocol        \tC; # default
        timeout         \t50;
    }
    _remote_host {
        address\t\t\tipv4 10.1.1.32:7789;
    }
    _this_host {
        address\t\t\tipv4 10.1.1.31:7789;
        volume 0 {
            device\t\t\tminor 1;
            disk\t\t\t\"/dev/sda7\";
            meta-disk\t\t\t\"/dev/md\" [ 2 ];
            disk {
                al-extents      \t300;
            }
        }
    }
}
";
        assert_eq!(text, expected);
        assert!(resource(&config, true).contains("ping-int        \t10; # default\n"));
    }

    #[test]
    fn a_point_in_time_has_its_date() {
        let at = |seconds| timestamp(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00.000000+00:00");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000000+00:00");
        assert_eq!(at(1_795_388_431), "2026-11-22T23:00:31.000000+00:00");
        assert_eq!(at(4_107_542_399), "2100-02-28T23:59:59.000000+00:00");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00.000000+00:00");
    }

    #[test]
    fn a_name_is_quoted_only_if_it_must_be() {
        assert_eq!(quoted_if_needed("r-1.x_y"), "r-1.x_y");
        assert_eq!(quoted_if_needed("my \"res\""), "\"my \\\"res\\\"\"");
        assert_eq!(quoted_if_needed(""), "\"\"");
    }
}
