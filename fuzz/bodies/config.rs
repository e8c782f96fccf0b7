//! Resource files: any text, and the dump of what was accepted.

use urbd::config::dump::Dump;
use urbd::config::shell::{self, VolumeQuery};
use urbd::config::{Config, Node, Source, SourceError, SourceText, parse_with};

/// Bytes: a resource file, which may include two others and itself. Either there is a report that
/// says what is wrong, or a configuration whose dump means the same and dumps the same.
pub(crate) fn text(data: &[u8]) {
    match parse_with(&Files, "/etc/drbd.conf", data) {
        Err(report) => {
            assert!(report.has_errors() && !report.is_empty());
            assert!(!report.render(false).is_empty());
        }
        Ok(config) => {
            assert!(!config.warnings.has_errors());
            let _ = (config.warnings.render(false), config.warnings.render(true));
            check_dump(&config);
            check_queries(&config);
        }
    }
}

/// Small files with most of the language in them.
pub(crate) fn text_seeds() -> Vec<Vec<u8>> {
    let hosts = |body: &str| {
        format!(
            "on alice {{ device /dev/drbd1; disk /dev/sda7; address 10.1.1.31:7789; meta-disk internal; }}\n\
             on bob {{ device minor 1; disk \"/dev/sda7\"; address ipv4 10.1.1.32:7789; meta-disk /dev/sdb[2]; }}\n\
             {body}"
        )
    };
    let resource = |name: &str, body: &str| format!("resource {name} {{\n{}}}\n", hosts(body));
    [
        resource("r0", ""),
        format!(
            "global {{ usage-count no; minor-count 64; }}\n\
             common {{ net {{ protocol A; max-buffers 8k; cram-hmac-alg sha1; shared-secret \"a b\\\"c\"; }}\n\
             disk {{ on-io-error detach; resync-rate 40M; al-extents 3389; }}\n\
             handlers {{ split-brain \"/usr/lib/drbd/notify.sh root\"; }} startup {{ wfc-timeout 120; }} }}\n{}",
            resource("\"r 1\"", "net { after-sb-0pri discard-zero-changes; allow-two-primaries; }\n")
        ),
        "resource r2 {\n device /dev/drbd_r2 minor 5; disk /dev/vg/lv; meta-disk internal;\n\
         volume 7 { device minor 9; disk /dev/x; flexible-meta-disk /dev/y; disk { size 10G; } }\n\
         on alice { address ipv6 [fd01::1]:7788; }\n on bob { address ipv6 [fd01::2]:7788; }\n }\n"
            .to_owned(),
        "resource r3 {\n volume 0 { device minor 1; disk /dev/a; meta-disk internal; }\n\
         floating 10.0.0.1:7789 { }\n floating ipv4 10.0.0.2:7789 { }\n options { cpu-mask 3; }\n }\n"
            .to_owned(),
        format!(
            "# comment\ninclude \"a.res\";\ninclude \"*.res\"; include drbd.conf;\n{}",
            resource("r4", "syncer { rate 10M; verify-alg md5; after r0; }\n protocol C; # old form\n")
        ),
        "skip resource x { } resource r5 { template-file foo; on a { } }".to_owned(),
        "common { protocol C; } resource r6 { protocol C; on a b { device /dev/drbd6; } net { timeout 60 } }"
            .to_owned(),
    ]
    .map(String::into_bytes)
    .into()
}

fn check_dump(config: &Config) {
    for expanded in [false, true] {
        let node = Node::named("alice");
        let dumped = Dump { config, node: &node, expanded }.all();
        let _ = Dump { config, node: &node, expanded }.xml_all();
        if expanded {
            continue; // what is inherited stands in it twice
        }
        let again = match parse_with(&Files, "/etc/drbd.conf", dumped.as_bytes()) {
            Ok(again) => again,
            Err(report) => panic!("the dump is refused: {}\n{dumped}", report.render(false)),
        };
        let twice = Dump { config: &again, node: &node, expanded }.all();
        assert_eq!(without_comments(&dumped), without_comments(&twice));
    }
}

/// File names and line numbers differ.
fn without_comments(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with('#')).collect()
}

/// Every host's view of every resource.
fn check_queries(config: &Config) {
    for resource in &config.resources {
        for host in &resource.hosts {
            let node = match host.names.first() {
                Some(name) => Node::named(name),
                None => Node::named(&host.address.text),
            };
            assert!(resource.is_on(&node));
            let _ = (shell::resources(config, &node), shell::mod_parms(config, &node));
            if let Ok(local) = config.local(&resource.name, &node, None) {
                let arguments = local.net_arguments().chain(local.resource_arguments());
                assert!(arguments.chain(local.wait_arguments()).all(|argument| argument.starts_with("--")));
            }
            for volume in &host.volumes {
                assert!(volume.arguments().all(|argument| argument.starts_with("--")));
                let _ = shell::udev(config, resource, host, volume);
                for query in ["sh-dev", "sh-minor", "sh-ll-dev", "sh-md-dev", "sh-md-idx", "sh-ip"] {
                    let _ = VolumeQuery::from_command(query).and_then(|query| query.answer(host, volume));
                }
            }
        }
    }
}

/// A directory with two files, one of which includes everything again.
struct Files;

impl Files {
    const ALL: [(&'static str, &'static str); 2] = [
        ("/etc/a.res", "include \"*.res\";\ninclude \"drbd.conf\";\n"),
        (
            "/etc/b.res",
            "resource included { on alice { device minor 33; disk /dev/q; address 10.9.9.1:7000; \
          meta-disk internal; } on bob { device minor 33; disk /dev/q; address 10.9.9.2:7000; \
          meta-disk internal; } }\n",
        ),
    ];
}

impl Source for Files {
    fn open(&self, path: &str) -> Result<SourceText, SourceError> {
        Err(SourceError(format!("{path} is never opened by name")))
    }

    fn include(&self, _from: &str, pattern: &str) -> Result<Vec<SourceText>, SourceError> {
        let found: Vec<SourceText> = Self::ALL
            .iter()
            .filter(|(path, _)| pattern.contains('*') || path.ends_with(pattern))
            .map(|(path, text)| SourceText {
                name: (*path).to_owned(),
                canonical: (*path).to_owned(),
                bytes: text.as_bytes().to_vec(),
            })
            .collect();
        if found.is_empty() && !pattern.contains('*') {
            return Err(SourceError(format!("{pattern} is not there")));
        }
        Ok(found)
    }
}
