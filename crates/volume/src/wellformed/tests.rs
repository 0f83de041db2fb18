//! The rules at their edges; which reader takes what is in `tests/images` and `tests/differential.rs`.

use super::*;

const LEAST: &str = r#"{"keyslots":{},"tokens":{},"segments":{"0":{"type":"x","offset":"16777216","size":"dynamic"}},"digests":{},"config":{"json_size":"12288","keyslots_size":"0"}}"#;

fn parse(text: &str) -> Result<WellFormed, MetadataFault> {
    let mut area = text.as_bytes().to_vec();
    area.resize(12288, 0);
    WellFormed::parse(&area, 0x4000)
}

#[test]
fn the_least_that_keeps_the_rules() {
    assert_eq!(parse(LEAST).unwrap().len_of_areas(), 0x8000);
    assert!(parse(&format!("{LEAST} \n")).is_ok());
}

#[test]
fn what_is_no_object_in_zeros_is_refused() {
    for text in [
        format!(" {LEAST}"),
        "[".repeat(4000),
        "\"text\"".to_owned(),
        String::new(),
    ] {
        assert_eq!(parse(&text).unwrap_err(), MetadataFault::NoObject);
    }
    assert_eq!(
        parse(&format!("{LEAST}\0x")).unwrap_err(),
        MetadataFault::Unterminated
    );
    assert_eq!(
        WellFormed::parse(&[b'{'; 64], 0x4000).unwrap_err(),
        MetadataFault::Unterminated
    );
    for text in [
        LEAST.replace("\"tokens\":{}", "\"tokens\":{},\"tokens\":{}"),
        LEAST.replace("\"json_size\"", "\"json_size\":\"0\",\"json_size\""),
        format!("{LEAST}x"),
        format!("{{\"keyslots\":{}", "[".repeat(4000)),
        format!("{{\"a\":{}1{}", "{\"a\":".repeat(2000), "}".repeat(2001)),
    ] {
        assert!(
            matches!(parse(&text), Err(MetadataFault::Syntax { line: 1, .. })),
            "{text}"
        );
    }
}

/// Checks that compare each with each end soon, whatever the size of the area.
#[test]
fn many_objects_take_no_time() {
    let segments: Vec<String> = (0..60_000)
        .map(|n| format!("\"{n}\":{{\"type\":\"x\",\"offset\":\"0\",\"size\":\"512\"}}"))
        .collect();
    let names = vec!["\"0\""; 500_000].join(",");
    let json_size = (4 << 20) - 4096;
    for text in [
        LEAST.replace(
            "\"0\":{\"type\":\"x\",\"offset\":\"16777216\",\"size\":\"dynamic\"}",
            &segments.join(","),
        ),
        LEAST.replace(
            "\"digests\":{}",
            &format!("\"digests\":{{\"0\":{{\"type\":\"x\",\"keyslots\":[],\"segments\":[{names}]}}}}"),
        ),
    ] {
        let mut area = text.into_bytes();
        assert!(area.len() < json_size);
        area.resize(json_size, 0);
        let why = WellFormed::parse(&area, 4 << 20).unwrap_err();
        assert_eq!(why, rule(Section::Whole, "has more objects than anybody needs"));
    }
}
