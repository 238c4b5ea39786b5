"""Makes the golden data of the tokenizer tests.

  python make_golden.py CHATGLM3_TOKENIZER_MODEL

Writes beside itself: byte_level.json, a small byte-level BPE trained by Hugging Face `tokenizers`;
metaspace.json, a BPE with a Metaspace pre-tokenizer and byte fallback; and golden.json, texts with
the ids that `tokenizers` (and, for ChatGLM3, `sentencepiece`) gives them.
"""
import json
import os
import random
import sys

import sentencepiece
from tokenizers import (AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers,
                        processors, trainers)

HERE = os.path.dirname(os.path.abspath(__file__))
SAMPLES = [
    "Hello world!  It's   12345 o'clock\n\n\tnow.  ",
    "naïve café – “quotes” … straße ſ'S I'LL we're",
    "汉字かな 한국어 ελληνικά русский العربية עברית हिन्दी ไทย",
    "🙂👩‍👩‍👧🏽 flags 🇩🇪 1️⃣ ½ ² Ⅷ ٣",
    "e\u0301 a\u030a \u212b \u1100\u1161 \ufb01",
    "a\u00a0b\u2003c\u3000d\u180ee\u0085f\u200bg\u2028h\x0bi\x0cj\x1ck",
    "<|end|>x <|end|> <|end", " <tag> word<tag>word <tag>", "", " ", "\n", "\r\n\r\n x",
]


def random_texts(count):
    rng = random.Random(7)
    pools = [
        [chr(c) for c in range(32, 127)], list(" \n\t\r   '"), list("abcdefghij   ABC"),
        [chr(c) for c in range(0xA0, 0x600) if chr(c).isprintable()], list("漢字仮名交じり文が"),
        ["🙂", "\u200d", "\u0301", "\u0308", "\u2581", "½", "Ⅷ", "\u2028", "\u3000"]
    ]
    texts = []
    for _ in range(count):
        texts.append("".join(rng.choice(rng.choice(pools)) for _ in range(rng.randint(1, 60))))
    return texts


def byte_level():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=600, show_progress=False,
                                  special_tokens=["<|begin|>", "<|end|>"],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(SAMPLES * 3 + random_texts(100), trainer)
    tokenizer.add_tokens([AddedToken("<tag>", lstrip=True, rstrip=False, single_word=True)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", tokenizer.token_to_id("<|begin|>"))])
    return tokenizer


def metaspace():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    trainer = trainers.BpeTrainer(
        vocab_size=500, show_progress=False, limit_alphabet=60, initial_alphabet=["\u2581"],
        special_tokens=["<unk>", "<s>", "</s>"] + ["<0x%02X>" % b for b in range(256)])
    tokenizer.train_from_iterator(SAMPLES * 3 + random_texts(100), trainer)
    # Byte tokens must not be found as added tokens in the text.
    data = json.loads(tokenizer.to_str())
    data["added_tokens"] = data["added_tokens"][:3]
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
        decoders.Strip(" ", 1, 0)])
    return tokenizer


def main():
    texts = SAMPLES + random_texts(60)
    golden = {}
    for name, tokenizer in (("byte_level", byte_level()), ("metaspace", metaspace())):
        tokenizer.save(os.path.join(HERE, name + ".json"), pretty=False)
        golden[name] = [{"text": t, "ids": tokenizer.encode(t, add_special_tokens=False).ids}
                        for t in texts]
    chatglm = sentencepiece.SentencePieceProcessor(model_file=sys.argv[1])
    golden["chatglm3"] = [{"text": t, "ids": chatglm.encode(t)} for t in texts[:6] + texts[8:30]]
    with open(os.path.join(HERE, "golden.json"), "w", encoding="utf-8") as file:
        json.dump(golden, file, ensure_ascii=True, separators=(",", ":"))
        file.write("\n")


if __name__ == "__main__":
    main()
