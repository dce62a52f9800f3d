//! A big plant made of many like parts, as a generator of configuration would write it.

use std::fmt::Write as _;

/// A program of about `lines` lines that checks without a word.
pub fn plant(lines: usize) -> String {
    let mut text = String::from("# Many sites in one agent.\n\n");
    let mut part = 0;
    while text.lines().count() < lines {
        let _ = write!(
            text,
            r#"## Site {part}: access log, filtered, taken apart, routed by status.
source log_{part} = tail "/var/log/site_{part}/*.log" {{
  from:  end
  batch: 2_000
}}
channel buf_{part} = memory {{ capacity: 20_000 }}
sink served_{part} = files "/data/site_{part}/${{time:%Y-%m-%d}}.log" {{ roll: 1h or 128MiB, compress: zstd }}
sink failed_{part} = files "/data/site_{part}/failed.log"

interceptor parse_{part} = extract /^(?<ip>\S+) \S+ (?<user>\S+) .* "(?<verb>[A-Z]+) (?<path>\S+)[^"]*" (?<status>\d{{3}})/
interceptor clean_{part} {{
  let limit = {limit}
  if len(body) > limit {{ drop }}
  body = replace_all(body, /password=[^&\s]+/, "password=***")
  header.site = "site_{part}"
  header.seen = format_time(time, "%FT%TZ")
}}

log_{part} -> timestamp -> host -> parse_{part} -> clean_{part} -> route int(header.status) {{
  200..399 -> buf_{part}
  400..499 -> buf_{part}
  500..599 -> failed_{part}
  else     -> discard
}}
buf_{part} -> served_{part}
parse_{part}.errors -> files "/data/site_{part}/rejected.log"

"#,
            limit = 1000 + part
        );
        part += 1;
    }
    text
}
