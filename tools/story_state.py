"""What a story knows while it is told: who is there, who owns what, and how things are said."""

from story_words import GIRLS, BOYS, PET_NAMES, ANIMALS, TOYS, COLOURS, KIN, ELDERS, TIMES, HAPPY


def an(words):
    """"an apple", "a red ball"."""
    return ("an " if words[0] in "aeiou" else "a ") + words


def plural(noun):
    return noun + ("es" if noun.endswith(("ch", "sh", "x", "s")) else "s")


def cap(words):
    return words[0].upper() + words[1:]


class Person:
    """Someone in a story: `str()` is the name, `he`, `him`, `his` the pronouns of that one."""

    def __init__(self, name, female, what, animal=False):
        self.name, self.what, self.animal, self.female = name, what, animal, female
        self.he, self.him, self.his = ("she", "her", "her") if female else ("he", "him", "his")
        self.He, self.His = cap(self.he), cap(self.his)

    def __str__(self):
        return self.name


class Story:
    """The state of one text: its random choices, its sentences so far, and questions that its state answers."""

    def __init__(self, rng):
        self.rng, self.parts, self.questions, self.used = rng, [], [], set()

    def pick(self, *options):
        options = options[0] if len(options) == 1 else options
        return options[int(self.rng.random() * len(options))]

    def chance(self, p):
        return self.rng.random() < p

    def fresh(self, options):
        """One of `options` that this text has not used yet."""
        while True:
            one = self.pick(options)
            if one not in self.used:
                self.used.add(one)
                return one

    def add(self, *options):
        """Appends one of the sentences."""
        self.parts.append(self.pick(options))

    def maybe(self, *options):
        if self.chance(0.5):
            self.add(*options)

    def ask(self, question, *answers):
        self.questions.append((question, self.pick(answers)))

    def child(self):
        female = self.chance(0.5)
        return Person(self.fresh(GIRLS if female else BOYS), female, "girl" if female else "boy")

    def animal(self):
        return Person(self.fresh(PET_NAMES), self.chance(0.5), self.fresh(ANIMALS), True)

    def hero(self):
        return self.animal() if self.chance(0.4) else self.child()

    def kin(self, who, elders=False):
        """A relative of `who`, called "his mother" at first; `str()` gives "his mother" as well."""
        word, sex = self.pick(ELDERS if elders else KIN)
        return Person(f"{who.his} {word}", sex == "f", word)

    def thing(self):
        """("red ball", "ball")"""
        noun = self.fresh(TOYS)
        return f"{self.fresh(COLOURS)} {noun}", noun

    def meet(self, who, extra=""):
        """The opening, which introduces `who` (and where, or what about)."""
        kind = f"{self.pick('little', 'young', 'small', 'kind', 'clever', 'brave', 'quiet', 'cheerful')} {who.what}"
        self.add(f"Once upon a time, there was {an(kind)} named {who}{extra}.",
                 f"Once upon a time, {an(kind)} named {who} lived in a {self.pick('small house', 'village', 'town', 'tree house' if who.animal else 'big house')}.",
                 f"There once was {an(kind)} named {who}{extra}.",
                 f"{who} was {an(kind)}{extra}.",
                 f"This is a story about {an(kind)} named {who}{extra}.")

    def time(self):
        return self.pick(TIMES)

    def weather(self):
        self.maybe("The sun was shining and the sky was blue.", "It was warm and bright.", "The birds were singing.",
                   "A soft wind was blowing.", "White clouds moved across the sky.", "It was a lovely day.")

    def end(self, *who):
        names = str(who[0]) if len(who) == 1 else ", ".join(str(w) for w in who[:-1]) + f" and {who[-1]}"
        was = "were" if len(who) > 1 else "was"
        they = "they" if len(who) > 1 else who[0].he
        self.add(f"{cap(names)} {was} very {self.pick(HAPPY)}.", f"{cap(names)} went home with a smile.",
                 f"{cap(names)} smiled all the way home.", f"It was the best day of the {self.pick('week', 'year', 'summer')}.",
                 f"That night, {they} slept very well.", "And everyone was happy.", f"{cap(names)} laughed and danced.",
                 f"{cap(names)} never forgot that day.", "The end.")

    def text(self):
        if self.questions and self.chance(0.12):
            question, answer = self.pick(self.questions)
            self.parts += ["Question: " + question, "Answer: " + answer]
        return " ".join(cap(p) for p in self.parts)


def say(s, who, words, verb=None):
    """Direct speech in one of a few orders."""
    verb = verb or s.pick("said", "said", "said", "said", "cried" if words[-1] == "!" else "answered" if words.startswith(("Yes", "No,")) else "said")
    mark = words[-1]
    inner = words if mark in "?!" else words[:-1] + ","
    return s.pick(f'"{inner}" {verb} {who}.', f'{cap(str(who))} {verb}, "{words}"', f'"{inner}" {who} {verb}.')


def thank(s, who, other):
    s.add(say(s, who, f"Thank you, {vocative(other)}!"), say(s, who, "Thank you so much!"), f"{cap(str(who))} thanked {other}.",
          f"{cap(str(who))} gave {other} a big hug.", say(s, who, "You are a good friend.") if not is_kin(other) else say(s, who, "I love you!"))


def is_kin(who):
    return " " in who.name


def vocative(who):
    return cap(who.what) if is_kin(who) else str(who)


def introduce(s, who, other):
    """First mention of a second one: "his friend Ben", "a fox named Rusty"."""
    return f"{who.his} friend {other}" if s.chance(0.5) else f"{an(other.what)} named {other}"
