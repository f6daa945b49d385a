"""What the talker says: a small pronouncing dictionary, sentences of ours, and makers of more."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lt_eval.synthetic.phonemes import SILENCE

if TYPE_CHECKING:
    from numpy.random import Generator


@dataclass(frozen=True)
class Word:
    """One spoken word; `pause_s` of silence follows it. Phonemes are ARPAbet with stress digits on vowels."""

    text: str
    phonemes: tuple[str, ...]
    pause_s: float = 0.0


@dataclass(frozen=True)
class Utterance:
    """Words to be spoken in a row. `question` makes the pitch rise at the end."""

    words: tuple[Word, ...]
    question: bool = False

    @property
    def text(self) -> str:
        """The transcript, as written."""
        return " ".join(word.text for word in self.words)

    @property
    def phonemes(self) -> tuple[str, ...]:
        """All phonemes with stress; pauses as SIL."""
        return tuple(p for word in self.words for p in (*word.phonemes, *((SILENCE,) if word.pause_s else ())))


_PRONUNCIATIONS = """
a AH0 | about AH0 B AW1 T | above AH0 B AH1 V | after AE1 F T ER0 | again AH0 G EH1 N | against AH0 G EH1 N S T
ago AH0 G OW1 | air EH1 R | all AO1 L | almost AO1 L M OW2 S T | always AO1 L W EY2 Z | and AH0 N D
apple AE1 P AH0 L | are AA1 R | arrived ER0 AY1 V D | as AE1 Z | ask AE1 S K | at AE1 T | autumn AO1 T AH0 M
away AH0 W EY1 | baby B EY1 B IY0 | bag B AE1 G | baker B EY1 K ER0 | beach B IY1 CH | beautiful B Y UW1 T AH0 F AH0 L
before B IH0 F AO1 R | began B IH0 G AE1 N | behind B IH0 HH AY1 N D | below B IH0 L OW1 | better B EH1 T ER0
big B IH1 G | bird B ER1 D | birds B ER1 D Z | blue B L UW1 | boat B OW1 T | book B UH1 K | books B UH1 K S
both B OW1 TH | bought B AO1 T | boy B OY1 | boys B OY1 Z | bread B R EH1 D | bridge B R IH1 JH | bright B R AY1 T
bring B R IH1 NG | brother B R AH1 DH ER0 | brought B R AO1 T | brown B R AW1 N | but B AH1 T | by B AY1
came K EY1 M | can K AE1 N | careful K EH1 R F AH0 L | cat K AE1 T | chair CH EH1 R | cheap CH IY1 P | cheese CH IY1 Z
children CH IH1 L D R AH0 N | choice CH OY1 S | city S IH1 T IY0 | clear K L IH1 R | close K L OW1 S | cloud K L AW1 D
clouds K L AW1 D Z | coat K OW1 T | coffee K AO1 F IY0 | cold K OW1 L D | come K AH1 M | cook K UH1 K | could K UH1 D
cup K AH1 P | day D EY1 | deep D IY1 P | did D IH1 D | do D UW1 | dog D AO1 G | door D AO1 R | down D AW1 N
dream D R IY1 M | each IY1 CH | early ER1 L IY0 | easy IY1 Z IY0 | eat IY1 T | eight EY1 T | end EH1 N D
evening IY1 V N IH0 NG | every EH1 V R IY0 | eyes AY1 Z | face F EY1 S | family F AE1 M L IY0 | far F AA1 R
farmer F AA1 R M ER0 | fast F AE1 S T | father F AA1 DH ER0 | few F Y UW1 | field F IY1 L D | find F AY1 N D
fire F AY1 ER0 | first F ER1 S T | fish F IH1 SH | five F AY1 V | flowers F L AW1 ER0 Z | follow F AA1 L OW0
followed F AA1 L OW0 D | food F UW1 D | for F AO1 R | forest F AO1 R AH0 S T | found F AW1 N D | four F AO1 R
fox F AA1 K S | fresh F R EH1 SH | friend F R EH1 N D | friends F R EH1 N D Z | from F R AH1 M | front F R AH1 N T
full F UH1 L | garden G AA1 R D AH0 N | gave G EY1 V | girl G ER1 L | give G IH1 V | go G OW1 | gold G OW1 L D
good G UH1 D | grass G R AE1 S | gray G R EY1 | great G R EY1 T | green G R IY1 N | had HH AE1 D | half HH AE1 F
happy HH AE1 P IY0 | has HH AE1 Z | have HH AE1 V | he HH IY1 | hear HH IH1 R | heard HH ER1 D | heavy HH EH1 V IY0
hello HH AH0 L OW1 | help HH EH1 L P | her HH ER1 | here HH IH1 R | high HH AY1 | hill HH IH1 L | his HH IH1 Z
hold HH OW1 L D | home HH OW1 M | hope HH OW1 P | house HH AW1 S | how HH AW1 | hundred HH AH1 N D R AH0 D | i AY1
ice AY1 S | idea AY0 D IY1 AH0 | if IH1 F | in IH0 N | into IH1 N T UW0 | is IH1 Z | it IH1 T | journey JH ER1 N IY0
joy JH OY1 | jump JH AH1 M P | just JH AH1 S T | keep K IY1 P | kept K EH1 P T | kitchen K IH1 CH AH0 N | know N OW1
lake L EY1 K | large L AA1 R JH | last L AE1 S T | late L EY1 T | laughed L AE1 F T | leave L IY1 V | left L EH1 F T
letter L EH1 T ER0 | light L AY1 T | like L AY1 K | listen L IH1 S AH0 N | little L IH1 T AH0 L | live L IH1 V
long L AO1 NG | look L UH1 K | looked L UH1 K T | love L AH1 V | low L OW1 | made M EY1 D | make M EY1 K | man M AE1 N
many M EH1 N IY0 | map M AE1 P | market M AA1 R K AH0 T | may M EY1 | maybe M EY1 B IY0 | me M IY1
measure M EH1 ZH ER0 | meet M IY1 T | milk M IH1 L K | minutes M IH1 N AH0 T S | money M AH1 N IY0 | month M AH1 N TH
moon M UW1 N | more M AO1 R | morning M AO1 R N IH0 NG | most M OW1 S T | mother M AH1 DH ER0
mountain M AW1 N T AH0 N | move M UW1 V | moved M UW1 V D | much M AH1 CH | music M Y UW1 Z IH0 K | must M AH1 S T
my M AY1 | name N EY1 M | near N IH1 R | need N IY1 D | never N EH1 V ER0 | new N UW1 | next N EH1 K S T
night N AY1 T | nine N AY1 N | no N OW1 | noise N OY1 Z | north N AO1 R TH | not N AA1 T | nothing N AH1 TH IH0 NG
now N AW1 | ocean OW1 SH AH0 N | of AH0 V | off AO1 F | often AO1 F AH0 N | old OW1 L D | on AA1 N | once W AH1 N S
one W AH1 N | only OW1 N L IY0 | open OW1 P AH0 N | orange AO1 R AH0 N JH | our AW1 ER0 | out AW1 T | over OW1 V ER0
own OW1 N | paper P EY1 P ER0 | park P AA1 R K | path P AE1 TH | people P IY1 P AH0 L | pepper P EH1 P ER0
picture P IH1 K CH ER0 | place P L EY1 S | plan P L AE1 N | play P L EY1 | please P L IY1 Z | point P OY1 N T
pretty P R IH1 T IY0 | promise P R AA1 M AH0 S | puppy P AH1 P IY0 | purple P ER1 P AH0 L | put P UH1 T
quiet K W AY1 AH0 T | rain R EY1 N | ran R AE1 N | read R EH1 D | ready R EH1 D IY0 | really R IH1 L IY0 | red R EH1 D
remember R IH0 M EH1 M B ER0 | remembered R IH0 M EH1 M B ER0 D | right R AY1 T | river R IH1 V ER0 | road R OW1 D
room R UW1 M | round R AW1 N D | run R AH1 N | sad S AE1 D | said S EH1 D | salt S AO1 L T | same S EY1 M
sat S AE1 T | saw S AO1 | say S EY1 | school S K UW1 L | sea S IY1 | see S IY1 | seven S EH1 V AH0 N | shade SH EY1 D
she SH IY1 | ship SH IH1 P | shoes SH UW1 Z | shop SH AA1 P | short SH AO1 R T | should SH UH1 D | show SH OW1
silver S IH1 L V ER0 | simple S IH1 M P AH0 L | sister S IH1 S T ER0 | six S IH1 K S | sky S K AY1 | sleep S L IY1 P
slow S L OW1 | small S M AO1 L | smile S M AY1 L | snow S N OW1 | so S OW1 | soft S AO1 F T | some S AH1 M
song S AO1 NG | soon S UW1 N | sound S AW1 N D | soup S UW1 P | south S AW1 TH | speak S P IY1 K | spring S P R IH1 NG
stars S T AA1 R Z | start S T AA1 R T | station S T EY1 SH AH0 N | stay S T EY1 | stone S T OW1 N | stood S T UH1 D
story S T AO1 R IY0 | street S T R IY1 T | strong S T R AO1 NG | summer S AH1 M ER0 | sun S AH1 N | sure SH UH1 R
sweet S W IY1 T | table T EY1 B AH0 L | take T EY1 K | tall T AO1 L | teacher T IY1 CH ER0 | tell T EH1 L
ten T EH1 N | than DH AE1 N | thank TH AE1 NG K | that DH AE1 T | the DH AH0 | their DH EH1 R | them DH EH1 M
then DH EH1 N | there DH EH1 R | these DH IY1 Z | they DH EY1 | thing TH IH1 NG | think TH IH1 NG K | this DH IH1 S
thought TH AO1 T | three TH R IY1 | through TH R UW1 | time T AY1 M | to T UW0 | today T AH0 D EY1
together T AH0 G EH1 DH ER0 | told T OW1 L D | tomorrow T AH0 M AA1 R OW0 | too T UW1 | took T UH1 K | town T AW1 N
train T R EY1 N | travel T R AE1 V AH0 L | tree T R IY1 | trees T R IY1 Z | true T R UW1 | try T R AY1 | two T UW1
under AH1 N D ER0 | up AH1 P | us AH1 S | usually Y UW1 ZH AH0 L IY0 | valley V AE1 L IY0 | very V EH1 R IY0
view V Y UW1 | village V IH1 L AH0 JH | vision V IH1 ZH AH0 N | visit V IH1 Z AH0 T | voice V OY1 S | wait W EY1 T
walk W AO1 K | walked W AO1 K T | wall W AO1 L | want W AA1 N T | warm W AO1 R M | was W AA1 Z | watch W AA1 CH
watched W AA1 CH T | water W AO1 T ER0 | way W EY1 | we W IY1 | week W IY1 K | well W EH1 L | went W EH1 N T
were W ER1 | west W EH1 S T | what W AH1 T | when W EH1 N | where W EH1 R | which W IH1 CH | while W AY1 L
white W AY1 T | who HH UW1 | why W AY1 | wide W AY1 D | will W IH1 L | wind W IH1 N D | window W IH1 N D OW0
winter W IH1 N T ER0 | wish W IH1 SH | with W IH1 DH | woman W UH1 M AH0 N | word W ER1 D | words W ER1 D Z
work W ER1 K | world W ER1 L D | would W UH1 D | write R AY1 T | year Y IH1 R | years Y IH1 R Z | yellow Y EH1 L OW0
yes Y EH1 S | yesterday Y EH1 S T ER0 D EY2 | you Y UW1 | young Y AH1 NG | your Y AO1 R | zero Z IH1 R OW0
"""


@functools.cache
def lexicon() -> dict[str, tuple[str, ...]]:
    """Return lower-case word -> ARPAbet phonemes with stress."""
    entries = (entry.split() for entry in _PRONUNCIATIONS.replace("\n", "|").split("|") if entry.strip())
    return {word: tuple(phonemes) for word, *phonemes in entries}


SENTENCES = (
    "Hello, my name is not easy to say, but you may try.",
    "The baker brought fresh bread and cheese to the old market.",
    "We walked home through the quiet village after the rain.",
    "Maybe both boys will jump over the big brown fox.",
    "My mother bought five purple flowers from a young farmer.",
    "Please put the paper and the pepper above the blue table.",
    "Would you like some warm soup before the long journey?",
    "She saw a small white boat far out on the ocean.",
    "I think the first word was wind, and nothing more.",
    "Our teacher told them a very simple story about the moon.",
    "He usually has coffee in the kitchen at eight.",
    "Few people remember what the valley looked like then.",
    "They found a gold map behind the wall of the station.",
    "What should we bring to the beach tomorrow morning?",
    "The children laughed when the puppy ran into the lake.",
    "Every summer my family would visit a farmer in the south.",
    "You must measure the salt, and then move the cup.",
    "The train to the city was late again, so we sat and read.",
    "Give me five more minutes, and I will show you the way.",
    "Good morning, it is so good to hear your voice.",
    "The stars above the mountain were bright and clear.",
    "I wish you joy, good friends, and many happy years.",
    "She thought that the noise came from under the bridge.",
    "How much time do we have before the shop will close?",
    "We hear the birds in the garden early every day.",
    "A strong voice is not always the one that we follow.",
    "Put your shoes by the door, and come to the fire.",
    "Thank you, that was a great idea, and it made my week.",
)
"""Written for this project; each takes 2.5 to 4 seconds."""

_PUNCTUATION_PAUSE_S = {",": 0.16, ".": 0.32, "?": 0.32}

_DETERMINERS = "the a my your his her our their this that every"
_ADJECTIVES = """
old young big small bright blue green red white brown yellow quiet heavy fresh warm cold strong happy sad tall beautiful
simple pretty gray gold silver purple orange short long soft sweet careful
"""
_NOUNS = """
apple baker bird boat book boy bridge brother cat chair cloud coat cup dog door farmer father field fish fox friend
garden girl hill house lake letter map market man mother mountain path picture puppy river road room ship shop sister
station stone story table teacher town train tree valley village voice wall window woman
"""
_VERBS = "saw found bought brought heard kept left moved took gave made followed watched remembered"
_PLACES = "above behind below by near under over on in against before after with from"
_TIMES = "today tomorrow yesterday again now often once soon early late"
_OPENERS = "well yes no so now maybe then hello please"
_SHORT = "thank-you yes good-morning all-right very-good come-in not-now how-are-you wait-for-me"

_ONSETS = "P B T D K G M N F V TH DH S Z SH CH JH HH W Y R L P-L B-R T-R D-R K-L G-R F-L S-T S-P S-K S-M S-W TH-R"
_NUCLEI = "IY IH EH AE AA AO AH UH UW ER EY AY OY OW AW"
_CODAS = "- - - P B T D K M N NG F V S Z SH ZH L R S-T N-D M-P"


def utterance(text: str) -> Utterance:
    """Look up the words of a text; commas, full stops and question marks pause.

    Raises:
        KeyError: a word that the dictionary does not hold.
    """
    known = lexicon()
    words = []
    for token in text.split():
        bare = token.rstrip(",.?")
        words.append(Word(token, known[bare.lower()], _PUNCTUATION_PAUSE_S.get(token[-1], 0.0)))
    return Utterance(tuple(words), question=text.endswith("?"))


def _pick(words: str, rng: Generator) -> str:
    """Draw one of the words; hyphens stand for the spaces within it."""
    options = words.split()
    return options[int(rng.random() * len(options))].replace("-", " ")


def _noun_phrase(rng: Generator) -> str:
    adjective = _pick(_ADJECTIVES, rng) + " " if rng.random() < 0.55 else ""
    return f"{_pick(_DETERMINERS, rng)} {adjective}{_pick(_NOUNS, rng)}"


def _clause(rng: Generator) -> str:
    clause = f"{_noun_phrase(rng)} {_pick(_VERBS, rng)} {_noun_phrase(rng)}"
    if rng.random() < 0.6:
        clause += f" {_pick(_PLACES, rng)} {_noun_phrase(rng)}"
    return clause + (f" {_pick(_TIMES, rng)}" if rng.random() < 0.3 else "")


def make_sentence(rng: Generator) -> Utterance:
    """Return a grammatical sentence of dictionary words, 0.5 to 7 seconds long; meaning is not promised."""
    kind = rng.random()
    if kind < 0.15:
        text = _pick(_SHORT, rng)
    elif kind < 0.30:
        text = f"{_pick(_OPENERS, rng)}, {_clause(rng)}"
    elif kind < 0.45:
        text = f"{_clause(rng)}, and {_clause(rng)}"
    else:
        text = _clause(rng)
    return utterance(text[0].upper() + text[1:] + ("?" if rng.random() < 0.15 else "."))


def make_babble(rng: Generator, syllables: int) -> Utterance:
    """Return nonsense words of English syllables: every onset, vowel and coda is equally likely."""
    words: list[Word] = []
    while syllables > 0:
        count = min(syllables, 1 + int(rng.random() * 3))
        syllables -= count
        stressed = int(rng.random() * count)
        phonemes: list[str] = []
        for index in range(count):
            onset, coda = (_pick(options, rng).split() for options in (_ONSETS, _CODAS))
            phonemes += [*onset, _pick(_NUCLEI, rng) + ("1" if index == stressed else "0"), *coda]
        pause_s = 0.2 if rng.random() < 0.15 or syllables == 0 else 0.0
        spelled = "".join(phonemes).lower().translate(str.maketrans("", "", "012"))
        words.append(Word(spelled, tuple(phonemes), pause_s))
    return Utterance(tuple(words))


def make_utterance(rng: Generator) -> Utterance:
    """Return one of our sentences, a made one, or babble: the mixture that training draws from."""
    kind = rng.random()
    if kind < 0.35:
        return utterance(SENTENCES[int(rng.random() * len(SENTENCES))])
    if kind < 0.85:
        return make_sentence(rng)
    return make_babble(rng, 3 + int(rng.random() * 12))
