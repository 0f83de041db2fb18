//! What is counted of answers, in whatever pieces they come.

use super::*;

fn count(framing: Framing, text: &str) -> Usage {
    let mut whole = Counter::new(framing);
    whole.take(text.as_bytes());
    // However it is cut, the same is counted.
    for size in [1, 2, 3, 7] {
        let mut pieces = Counter::new(framing);
        for piece in text.as_bytes().chunks(size) {
            pieces.take(piece);
        }
        assert_eq!(pieces.usage(), whole.usage(), "in pieces of {size}");
    }
    whole.usage()
}

fn usage(prompt: u64, output: u64, objects: u64) -> Usage {
    Usage {
        prompt: Some(prompt),
        output: Some(output),
        objects,
    }
}

#[test]
fn ollamas_last_object_tells() {
    let stream = "{\"message\":{\"role\":\"assistant\",\"content\":\"a\"},\"done\":false}\n\
        {\"message\":{\"content\":\"b\"},\"done\":false}\n\
        {\"message\":{\"content\":\"\"},\"done\":true,\"prompt_eval_count\":26,\"eval_count\": 298,\"eval_duration\":4}\n";
    assert_eq!(count(Framing::Lines, stream), usage(26, 298, 3));
    let whole = "{\n  \"response\": \"x\",\n  \"context\": [1, 2, [3]],\n  \"prompt_eval_count\" : 5 ,\n  \"eval_count\": 7\n}\n";
    assert_eq!(count(Framing::Whole, whole), usage(5, 7, 1));
}

#[test]
fn usage_is_found_where_each_api_has_it() {
    let openai = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n\
        data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2,\"total_tokens\":11}}\n\ndata: [DONE]\n\n";
    assert_eq!(count(Framing::Events, openai), usage(9, 2, 2));
    let responses = "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"usage\":\
        {\"input_tokens\":3,\"input_tokens_details\":{\"cached_tokens\":8},\"output_tokens\":4}}}\r\n\r\n";
    assert_eq!(count(Framing::Events, responses), usage(3, 4, 1));
    let anthropic = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":12,\
        \"output_tokens\":1}}}\n\nevent: message_delta\ndata:{\"usage\":{\"output_tokens\":30}}\n\n";
    assert_eq!(count(Framing::Events, anthropic), usage(12, 30, 2));
    let whole = "{\"id\":\"x\",\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}";
    assert_eq!(count(Framing::Whole, whole), usage(1, 2, 1));
}

#[test]
fn what_a_model_says_does_not_count() {
    for text in [
        r#"{"response":"\",\"eval_count\":9,\"x\":\""}"#,
        r#"{"response":"\\\",\"eval_count\":9"}"#,
        r#"{"message":{"tool_calls":[{"function":{"arguments":{"eval_count":9,"usage":{"output_tokens":9}}}}]}}"#,
        r#"{"message":{"eval_count":9}}"#,
        r#"{"choices":[{"usage":{"completion_tokens":9}}]}"#,
        r#"[{"eval_count":9}]"#,
        r#"{"eval_count":"9"}"#,
        r#"{"eval_count":-9}"#,
        r#"{"eval_count":9.5}"#,
        r#"{"eval_count":null}"#,
        r#"{"EVAL_COUNT":9}"#,
        r#"{"eval_count\u0020":9}"#,
        r#""eval_count":9"#,
        r#"{"a":"eval_count","b":[9]}"#,
    ] {
        let got = count(Framing::Whole, text);
        assert_eq!((got.prompt, got.output), (None, None), "{text}");
    }
    // An event that only looks like data, and a broken line, end with their lines.
    let got = count(
        Framing::Events,
        "xdata: {\"eval_count\":1}\n: {\"eval_count\":2}\ndata: {\"a\":\"\n",
    );
    assert_eq!(got, Usage::default());
    let got = count(Framing::Lines, "{{{{[[\n{\"eval_count\":3}\n");
    assert_eq!((got.output, got.objects), (Some(3), 1));
}

#[test]
fn absurd_numbers_and_depths_stay_in_bounds() {
    let got = count(
        Framing::Whole,
        &format!("{{\"eval_count\":{},\"x\":1}}", "9".repeat(40)),
    );
    assert_eq!(got.output, Some(u64::MAX));
    let deep = "[{\"a\":".repeat(10_000);
    assert_eq!(count(Framing::Whole, &deep), Usage::default());
    assert_eq!(count(Framing::Whole, "}}}]]{\"eval_count\":1}").output, Some(1));
}
