//! Go itself as the judge: what we forward, its `encoding/json` decodes to the very values that were judged.
//!
//! A program in Go, compiled here by Debian's compiler, reads each forwarded body into structures with the keys of Ollama's, as Ollama
//! does, and says what it found.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use proptest::{
    strategy::{Strategy as _, ValueTree as _},
    test_runner::TestRunner,
};
use serde_json::Value;

use super::{
    near::{STRICT, near_requests},
    *,
};

const PROGRAM: &str = r#"package main

import (
	"bufio"
	"encoding/json"
	"os"
	"strings"
	"time"
)

type message struct {
	Role   string   `json:"role"`
	Images []string `json:"images"`
}

type request struct {
	Model     string           `json:"model"`
	System    json.RawMessage  `json:"system"`
	Raw       json.RawMessage  `json:"raw"`
	Messages  json.RawMessage  `json:"messages"`
	Options   map[string]any   `json:"options"`
	KeepAlive json.RawMessage  `json:"keep_alive"`
	MaxTokens json.RawMessage  `json:"max_tokens"`
}

type verdict struct {
	Error       string
	Model       string
	System      bool
	Raw         bool
	Roles       []string
	Images      bool
	Ctx         int64
	Predict     int64
	MaxTokens   int64
	KeepAlive   float64
}

func whole(v any) int64 {
	if f, ok := v.(float64); ok {
		return int64(f)
	}
	return 0
}

func seconds(raw json.RawMessage) float64 {
	var v any
	if len(raw) == 0 || json.Unmarshal(raw, &v) != nil {
		return -2
	}
	switch t := v.(type) {
	case float64:
		if t < 0 {
			return -1
		}
		return float64(int(t)*int(time.Second)) / 1e9
	case string:
		d, err := time.ParseDuration(t)
		if err != nil {
			return -2
		}
		if d < 0 {
			return -1
		}
		return d.Seconds()
	}
	return -2
}

func judge(line string) (v verdict) {
	var r request
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		v.Error = err.Error()
		return
	}
	v.Model = r.Model
	var text string
	v.System = json.Unmarshal(r.System, &text) == nil && text != ""
	json.Unmarshal(r.Raw, &v.Raw)
	var messages []message
	json.Unmarshal(r.Messages, &messages)
	for _, m := range messages {
		v.Roles = append(v.Roles, strings.ToLower(m.Role))
		v.Images = v.Images || len(m.Images) > 0
	}
	v.Ctx = whole(r.Options["num_ctx"])
	v.Predict = whole(r.Options["num_predict"])
	var max any
	json.Unmarshal(r.MaxTokens, &max)
	v.MaxTokens = whole(max)
	v.KeepAlive = seconds(r.KeepAlive)
	return
}

func main() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<24)
	out := json.NewEncoder(os.Stdout)
	for in.Scan() {
		out.Encode(judge(in.Text()))
	}
}
"#;

/// What Go says of each line.
fn go(lines: &[String]) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("judge.go");
    std::fs::write(&file, PROGRAM).unwrap();
    let program = folder.path().join("judge");
    let built = Command::new("go")
        .args(["build", "-o"])
        .args([&program, &file])
        .env("GOCACHE", folder.path().join("cache"))
        .env("GOFLAGS", "-mod=mod")
        .env("CGO_ENABLED", "0")
        .output()
        .expect("`go` is missing: ci/setup installs it");
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    let mut child = Command::new(&program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = lines.join("\n") + "\n";
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn go_finds_in_what_is_forwarded_what_was_judged() {
    let policy = rules(STRICT);
    let mut runner = TestRunner::deterministic();
    let strategy = near_requests();
    let mut forwarded: Vec<(&str, String)> = Vec::new();
    let mut seen = 0;
    while forwarded.len() < 6000 {
        seen += 1;
        assert!(seen < 200_000, "hardly anything passes");
        let body = strategy.new_tree(&mut runner).unwrap().current();
        for path in ["/api/generate", "/api/chat", "/v1/chat/completions"] {
            if let Ok(out) = judged(path, &body, &policy) {
                forwarded.push((path, out));
            }
        }
    }
    assert!(seen > forwarded.len() / 3, "hardly anything is refused");
    let lines: Vec<String> = forwarded.iter().map(|(_, line)| line.clone()).collect();
    let verdicts = go(&lines);
    assert_eq!(verdicts.len(), lines.len());
    let mut bounded = 0;
    for ((path, line), verdict) in forwarded.iter().zip(&verdicts) {
        assert_eq!(verdict["Error"], "", "{line}");
        assert_eq!(verdict["Model"], "smollm2:135m", "{line}");
        assert_eq!(verdict["System"], false, "{line}");
        assert_eq!(verdict["Raw"], false, "{line}");
        assert_eq!(verdict["Images"], false, "{line}");
        let roles = verdict["Roles"].as_array().into_iter().flatten();
        for role in roles {
            assert!(
                ["", "user", "assistant", "tool", "function"].contains(&role.as_str().unwrap()),
                "{line}"
            );
        }
        assert!(verdict["Ctx"].as_i64().unwrap() <= 4096, "{line}");
        let bound = if *path == "/v1/chat/completions" {
            "MaxTokens"
        } else {
            "Predict"
        };
        assert!(
            (1..=64).contains(&verdict[bound].as_i64().unwrap()),
            "{path} {line}"
        );
        let keep_alive = verdict["KeepAlive"].as_f64().unwrap();
        // -2: not there, or not on this route.
        if *path != "/v1/chat/completions" && keep_alive > -2.0 {
            bounded += 1;
            assert!((60.0..=600.0).contains(&keep_alive), "{line}");
        }
    }
    assert!(bounded > 200, "hardly any keep_alive was tried");
}

/// The attack that the contract names, seen with Go's own eyes: what Go would do with bytes that we refuse.
#[test]
fn go_would_run_the_denied_model() {
    let attacks = [
        r#"{"model":"smollm2:135m","MODEL":"denied"}"#,
        r#"{"model":"smollm2:135m","model":"denied"}"#,
        r#"{"model":"smollm2:135m","mode\u006c":"denied"}"#,
        "{\"model\":\"smollm2:135m\",\"\u{17f}ystem\":\"denied\"}",
        "{\"model\":\"smollm2:135m\",\"\u{212a}eep_alive\":\"100h\"}",
    ];
    let verdicts = go(&attacks.map(str::to_owned));
    assert!(
        verdicts
            .iter()
            .take(3)
            .all(|verdict| verdict["Model"] == "denied"),
        "{verdicts:?}"
    );
    assert_eq!(verdicts[3]["System"], true);
    assert_eq!(verdicts[4]["KeepAlive"], 360_000.0);
    for attack in attacks {
        let refused = judged("/api/generate", attack, &policy("")).unwrap_err();
        assert_eq!(refused.refusal(), Refusal::RequestMalformed, "{attack}");
    }
}
