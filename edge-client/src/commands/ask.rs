//! `edge-client ask`: a question, and the answer as it comes.
//!
//! Owns: the request's body and the printing of the stream. What the model says is cleaned before it is printed.

use std::io::Read as _;

use http::Method;
use serde_json::{Value, json};

use super::Common;
use crate::{
    answer::Answer,
    call::{CallError, Caller, Request},
    cli::{Api, Ask},
    error::{Error, Exit},
    proxy::Proxy,
    report,
};

pub(crate) async fn run(common: &Common, ask: Ask) -> Result<Exit, Error> {
    let model = common.settings.model.clone().ok_or(Error::NoModel)?;
    let question = question(&ask.question)?;
    let request = request(ask.api, &model, &question, ask.max_tokens);
    let (device, origin) = common.open().await?;
    let proxy = Proxy::new(origin, &device.psk).map_err(CallError::from)?;
    let caller = Caller::new(&proxy, &device, &common.settings, common.verbose);
    let (mut response, admission) = caller.run(&request, !ask.no_evidence).await?;

    let mut answer = Answer::default();
    let mut whole = String::new();
    let print = |text: &str| if common.json { Ok(()) } else { report::data(text) };
    while let Some(bytes) = response
        .chunk()
        .await
        .map_err(|source| CallError::from(proxy.unreachable(source)))?
    {
        let text = answer.push(&bytes)?;
        print(&text)?;
        whole.push_str(&text);
    }
    let (text, totals) = answer.finish()?;
    print(&text)?;
    whole.push_str(&text);
    if common.json {
        let object = json!({ "answer": whole, "model": model, "session": admission, "totals": totals });
        report::line(&object.to_string())?;
    } else if !whole.ends_with('\n') {
        report::line("")?;
    }
    Ok(Exit::Done)
}

fn question(words: &[String]) -> Result<String, Error> {
    let text = match words {
        [dash] if dash == "-" => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(Error::Prompt)?;
            text
        }
        words => words.join(" "),
    };
    let text = text.trim();
    if text.is_empty() {
        return Err(Error::NoPrompt);
    }
    Ok(text.to_owned())
}

fn request(api: Api, model: &str, question: &str, max_tokens: Option<u32>) -> Request {
    let (path, mut body) = match api {
        Api::Chat => (
            "/api/chat",
            json!({ "model": model, "messages": [{ "role": "user", "content": question }], "stream": true }),
        ),
        Api::Generate => (
            "/api/generate",
            json!({ "model": model, "prompt": question, "stream": true }),
        ),
    };
    if let (Some(tokens), Value::Object(fields)) = (max_tokens, &mut body) {
        fields.insert("options".to_owned(), json!({ "num_predict": tokens }));
    }
    Request {
        method: Method::POST,
        path,
        body: body.to_string().into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(api: Api, max_tokens: Option<u32>) -> (&'static str, Value) {
        let request = request(api, "m", "why \"so\"?", max_tokens);
        (request.path, serde_json::from_slice(&request.body).unwrap())
    }

    #[test]
    fn bodies_are_ollamas() {
        let (path, chat) = body(Api::Chat, None);
        assert_eq!(path, "/api/chat");
        assert_eq!(
            chat,
            json!({ "model": "m", "messages": [{ "role": "user", "content": "why \"so\"?" }], "stream": true })
        );
        let (path, generate) = body(Api::Generate, Some(9));
        assert_eq!(path, "/api/generate");
        assert_eq!(
            generate,
            json!({ "model": "m", "prompt": "why \"so\"?", "stream": true, "options": { "num_predict": 9 } })
        );
    }

    #[test]
    fn a_question_has_words() {
        assert_eq!(
            question(&["which ".to_owned(), "platform?".to_owned()]).unwrap(),
            "which  platform?"
        );
        assert!(matches!(question(&[" ".to_owned()]), Err(Error::NoPrompt)));
    }
}
