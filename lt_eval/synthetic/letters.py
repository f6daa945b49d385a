"""English letters to ARPAbet, for words that the dictionary does not hold.

Ordered rules in the manner of Elovitz et al. (1976, "Automatic translation of English text to phonetics by means of
letter-to-sound rules"), rewritten and much shortened: names and loan words often come out wrong. It makes any text
sayable on a machine without a speech synthesiser, not every word right.
"""

from __future__ import annotations

import functools
import re

from lt_eval.synthetic.lexicon import Utterance, Word, lexicon
from lt_eval.synthetic.phonemes import PHONEMES

PAUSES_S = {",": 0.16, ";": 0.22, ":": 0.22, ".": 0.32, "!": 0.32, "?": 0.32, "…": 0.4}

_VOWELS = frozenset(name for name, phoneme in PHONEMES.items() if phoneme.is_vowel)

_RULES = """
a: ^a$=AH | ^are$=AA R | ^al(?=[lmk])=AO L | augh=AO | au|aw=AO | air=EH R | ai|ay=EY | alk=AO K | al(?=t)=AO L
a: arr=AE R | ar=AA R | ange=EY N JH | able$=AH B AH L | age$=IH JH | ally$=AH L IY | al$=AH L | (?<=w)a(?=[tls])=AA
a: ature$=AH CH ER | (?<=.)a$=AH | a(?=[^aeiouwxy]e(?:[sd]|r?$))=EY | a(?=ti)=EY | a(?=[^aeiou][aeiouy])=EY | a=AE
b: bb=B | (?<=m)b$= | b=B
c: chr=K R | ch=CH | ck=K | (?<=s)c(?=[eiy])= | cia=SH AH | cio=SH AH | cc(?=[eiy])=K S | cc=K | c(?=[eiy])=S | c=K
d: dge=JH | dd=D | (?<=[^aeiouyldrnbmvgz])ed$=T | d=D
e: eau=OW | ear(?=[^aeiou])=ER | ear|eer=IH R | ea(?=d|lth|th)=EH | ea|ee=IY | eigh=EY | ei(?=[vtg])=IY | ei=EY
e: eu|ew=Y UW | ey$=IY | ery$=ER IY | ere$=IH R | err=EH R | er=ER | (?<=[dt])ed$=IH D | (?<=[pkfshxc])ed$=T | ed$=D
e: (?<=[szxjg])es$=IH Z | (?<=ch|sh)es$=IH Z | (?<=[^aeiou])e(?=ment|less|ful|ly$)= | e(?=ss$|n$)=AH | (?<=..)es$=Z
e: (?<=..)e$= | e$=IY | e(?=[^aeiouwxyr][aeiou])=IY | e=EH
f: ff=F | f=F
g: gh(?=t)= | (?<=u)gh=F | gh=G | gn$=N | ^gn=N | gg=G | ge$=JH | g(?=[iy])=JH | (?<=[^g])ge(?=[aourn])=JH EH | g=G
h: h(?=[^aeiouy]|$)= | h=HH
i: illion=IH L Y AH N | igh=AY | ier$=IY ER | ied$=AY D | ies$=IY Z | ie=IY | ir=ER | ign$=AY N | ild$=AY L D
i: ind$=AY N D | ique$=IY K | ity$=AH T IY | ing$=IH NG | ive$=IH V | ism$=IH Z AH M | ize|ise$=AY Z | ia=IY AH
i: io=IY OW | i$=IY | i(?=[^aeiouwxy]e(?:[sd]|r?$))=AY | ^i(?=[^aeiou][aeiou])=AY | i=IH
j: j=JH
k: ^kn=N | kk=K | k=K
l: le$=AH L | les$=AH L Z | ll=L | l=L
m: mm=M | m=M
n: ng$=NG | ng(?=[^aeiouy])=NG | nk=NG K | nn=N | n=N
o: ^oh$=OW | (?<=r)ough$=UW | ough(?=t)=AO | ough$=OW | oo(?=[kd])=UH | oo=UW | ould=UH D | ounc=AW N S | ous$=AH S
o: ou(?=[nstd])=AW | our=AO R | ou=UW | ow(?=n|d|er)=AW | ow$=OW | ow=AW | oa=OW | oi|oy=OY | or=AO R
o: ology=AA L AH JH IY | old=OW L D | o$=OW | (?<=[tsc]i)on=AH N | ome$=AH M | o(?=[^aeiouwxy]e(?:[sd]|r?$))=OW
o: o(?=st$)=OW | oe$=OW | o(?=[^aeiou][aeiouy])=OW | o=AA
p: ph=F | ^ps=S | pp=P | p=P
q: que$=K | qu=K W | q=K
r: rr=R | rh=R | r=R
s: sch=S K | ssion=SH AH N | sion=ZH AH N | sure$=ZH ER | sh=SH | ss=S | (?<=[bdgvmnlrwaeiou])s$=Z
s: (?<=[aeiou])s(?=[aeiou])=Z | s=S
t: tch=CH | tion=SH AH N | tious=SH AH S | tial=SH AH L | ture$=CH ER | th(?=e[mnry]|is|at|ose|us)=DH | th=TH | tt=T
t: t=T
u: ^un(?=i)=Y UW N | ^un=AH N | ur=ER | ui(?=[^aeiou])=UW | ue$=UW | (?<=[bcfhmpkv])u(?=[^aeiou][aeiou])=Y UW | uy=AY
u: (?<=g)u(?=[aei])= | (?<=[rljstdn])u(?=[^aeiou][aeiou])=UW | ^u(?=[^aeiou][aeiou])=Y UW | u$=UW | u=AH
v: v=V
w: ^wr=R | wh(?=o)=HH | wh=W | (?<=[aeo])w= | w=W
x: ^x=Z | ex(?=[aeiou])=IH G Z | x=K S
y: ^y=Y | (?<=[aeiou])y= | ^(?=.y$)=AY | (?<=^[^aeiou])y$=AY | (?<=^[^aeiou][^aeiou])y$=AY | y$=IY | y(?=[^aeiou]e)=AY
y: y=IH
z: zz=Z | z=Z
"""

_ONES = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
nineteen
"""
_TENS = "- - twenty thirty forty fifty sixty seventy eighty ninety"
_SIZES = ((1_000_000, "million"), (1000, "thousand"), (100, "hundred"))
_LETTERS = """
EY|B IY|S IY|D IY|IY|EH F|JH IY|EY CH|AY|JH EY|K EY|EH L|EH M|EH N|OW|P IY|K Y UW|AA R|EH S|T IY|Y UW|V IY
D AH B L Y UW|EH K S|W AY|Z IY
"""


@functools.cache
def _rules() -> dict[str, list[tuple[re.Pattern[str], tuple[str, ...]]]]:
    rules: dict[str, list[tuple[re.Pattern[str], tuple[str, ...]]]] = {}
    for line in _RULES.strip().splitlines():
        letter, _, body = line.partition(": ")
        for rule in body.split(" | "):
            pattern, _, phonemes = rule.rpartition("=")
            # the "=" of a look-ahead or look-behind is not the one that ends the pattern
            rules.setdefault(letter, []).append((re.compile(pattern), tuple(phonemes.split())))
    return rules


def pronounce(word: str) -> tuple[str, ...]:
    """Return ARPAbet with stress digits of one word, by rule; at least one phoneme.

    Args:
        word: letters and apostrophes; others are ignored.
    """
    letters = re.sub(r"[^a-z]", "", word.lower())
    sounds: list[str] = []
    at = 0
    while at < len(letters):
        for pattern, phonemes in _rules()[letters[at]]:
            match = pattern.match(letters, at)
            if match and match.end() > at:
                sounds += phonemes
                at = match.end()
                break
        else:
            at += 1
    if not any(sound in _VOWELS for sound in sounds):
        names = _LETTERS.strip().replace("\n", "|").split("|")
        sounds = [sound for letter in letters for sound in names[ord(letter) - ord("a")].split()] or ["AH"]
    return _stressed(sounds)


def _stressed(sounds: list[str]) -> tuple[str, ...]:
    """Put the stress on the first vowel."""
    done, stressed = [], False
    for sound in sounds:
        if sound in _VOWELS:
            done.append(f"{sound}{0 if stressed else 1}")
            stressed = True
        else:
            done.append(sound)
    return tuple(done)


def number_words(number: int) -> str:
    """Return a number of 0 to 999,999,999 in words; 1100 to 1999 as a year is read."""
    ones = _ONES.split()
    if number < 20:
        return ones[number]
    if number < 100:
        return _TENS.split()[number // 10] + (f" {ones[number % 10]}" if number % 10 else "")
    if 1100 <= number < 2000 and number % 100:
        oh = "oh " if number % 100 < 10 else ""
        return f"{number_words(number // 100)} {oh}{number_words(number % 100)}"
    size, name = next((size, name) for size, name in _SIZES if number >= size)
    return f"{number_words(number // size)} {name}" + (f" {number_words(number % size)}" if number % size else "")


def spoken(text: str) -> str:
    """Return a text with its numbers and a few signs in words."""
    text = text.replace("’", "'").replace("%", " percent").replace("&", " and ").replace("°", " degrees ")
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
    text = re.sub(r"(?<=\d)\.(?=\d)", " point ", text)
    return re.sub(r"\d+", lambda match: f" {_digits(match[0])} ", text)


def _digits(digits: str) -> str:
    return number_words(int(digits)) if len(digits) < 10 else " ".join(_ONES.split()[int(digit)] for digit in digits)


def utterance_by_rule(text: str) -> Utterance:
    """Return any English text as an utterance: dictionary words as they stand there, others by rule.

    Raises:
        ValueError: the text holds nothing that can be said.
    """
    known = lexicon()
    words = []
    for token in re.split(r"[\s—–/-]+", spoken(text)):
        bare = re.sub(r"[^A-Za-z']", "", token).strip("'")
        pause_s = max((PAUSES_S.get(sign, 0.0) for sign in token[len(token.rstrip(",;:.!?…)\"'”")) :]), default=0.0)
        if bare:
            words.append(Word(token, known.get(bare.lower()) or pronounce(bare), pause_s))
        elif pause_s and words:
            words[-1] = Word(words[-1].text, words[-1].phonemes, max(pause_s, words[-1].pause_s))
    if not words:
        raise ValueError(f"{text!r} holds no word that can be said")
    return Utterance(tuple(words), question=text.rstrip().endswith("?"))
