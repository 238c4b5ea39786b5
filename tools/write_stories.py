#!/usr/bin/env python3
"""Writes small English stories from this file's own words and plots; no other text goes in.

    python3 tools/write_stories.py --count=5 --seed=1        # five texts, one per paragraph block

Every text is put together from a state (who is there, who owns what, where things are), so that names, pronouns,
colours, places and owners stay consistent within it. tools/train_stories.py trains the bundled model on these texts.
"""

import argparse
import random

GIRLS = """Anna Mia Lily Emma Rosa Nora Ella Lucy Sara Zoe Amy Ruby Ivy Clara Maya Lena Tina Jane Molly Daisy Kim Grace
Alice Nina Sofia Eva Hana Fiona Pam Betty""".split()
BOYS = """Tom Ben Max Sam Leo Jack Tim Finn Noah Luke Adam Paul Oscar Theo Hugo Dan Peter Bob Carl Jim Omar Ravi Felix
Henry Nick Otto Milo Joe Erik Will""".split()
PET_NAMES = """Rusty Pip Nibbles Biscuit Pepper Coco Bramble Fluffy Button Ginger Hazel Misty Rocky Sandy Teddy Shadow
Pickle Muffin Poppy Maple Whiskers Dusty Peanut Star""".split()
ANIMALS = "fox rabbit bear mouse squirrel hedgehog duck cat dog owl frog goat pony lamb turtle monkey otter badger".split()
SMALL_ANIMALS = "kitten puppy bird mouse duckling lamb squirrel rabbit hedgehog frog".split()
TOYS = """ball|kite|doll|drum|book|hat|toy boat|teddy bear|scarf|bag|whistle|puzzle|robot|flute|hoop|coat|bell|cup|
basket|box|umbrella|lamp|blanket|train|toy car""".replace("\n", "").split("|")
COLOURS = "red blue green yellow orange purple white black brown pink silver golden".split()
SIZES = "little|big|tiny|small|old|new|shiny|pretty|soft|round".split("|")
FRUITS = "apple pear peach plum banana orange carrot".split()
FOODS = "cake|bread|soup|pie|cheese|rice|jam|porridge|honey|pizza".split("|")
SNACKS = "cookie|sandwich|muffin|pancake|bun|apple|pear|banana|peach|egg".split("|")
GAMES = "tag|hide and seek|catch|chess|cards|football|a guessing game|pirates".split("|")
FLOWERS = "rose|sunflower|tulip|daisy|lily|bluebell".split("|")
PLANTS = "carrot|pumpkin|tomato|sunflower|bean|strawberry|melon|turnip".split("|")
# (where one is, where one goes, the place itself)
PLACES = [(p + " the " + n, "to the " + n, "the " + n) for p, n in (
    w.split("-") for w in """in-garden in-park in-forest by-river on-beach on-hill on-farm at-market by-lake in-meadow
    at-school in-village by-pond in-barn in-yard at-harbour in-field at-library""".split())]
WILD = [p for p in PLACES if p[2][4:] in "forest river beach hill lake meadow pond field park garden".split()]
SPOTS = """under the bed|behind the door|under a bush|behind a tree|in the tall grass|under the table|in a basket|
behind the shed|under a bench|in the kitchen|on top of a rock|next to the gate|inside an old boot|under the stairs|
behind the big clock""".replace("\n", "").split("|")
INDOORS = "under the bed|behind the door|under the table|in a basket|in the kitchen|under the stairs|behind the sofa".split("|")
KIN = [("mother", "f"), ("father", "m"), ("grandmother", "f"), ("grandfather", "m"), ("sister", "f"), ("brother", "m"),
       ("aunt", "f"), ("uncle", "m")]
ELDERS = KIN[:4] + KIN[6:]
TIMES = "One day|One morning|One sunny day|One afternoon|One cold morning|One bright morning|One summer day|On Monday|" \
        "On Sunday|One evening|Early one morning|One quiet day".split("|")
LATER = "Soon|After a while|A little later|Then|After that|Before long".split("|")
HAPPY = "happy|glad|proud|cheerful".split("|")
SAD = "sad|upset|unhappy|worried".split("|")
NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve".split()
SOUNDS = {"cat": "meow", "dog": "woof", "duck": "quack", "cow": "moo", "sheep": "baa", "owl": "hoot", "bee": "buzz",
          "lion": "roar", "mouse": "squeak", "frog": "croak", "horse": "neigh", "pig": "oink"}


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


# ---- plots. Each leaves its sentences and questions in `s`. ----

def lost_thing(s):
    a, b = s.hero(), s.hero()
    full, noun = s.thing()
    spot = s.pick(SPOTS)
    s.meet(a, s.pick("", f", who had {an(full)}"))
    s.add(f"{a} loved {a.his} {full} very much.", f"{a} had {an(full)} and played with it every day.", f"{a.His} favourite thing was {an(full)}.")
    s.add(f"{s.time()}, the {noun} was gone.", f"{s.time()}, {a} could not find the {noun}.", f"{s.time()}, {a} lost the {noun}.")
    s.add(f"{a} was {s.pick(SAD)} and began to cry.", f"{a} looked everywhere, but the {noun} was not there.", f"{a.He} looked {s.fresh(SPOTS)}, but it was not there.")
    s.add(f"{a} went to {introduce(s, a, b)}.", f"Then {a} met {introduce(s, a, b)}.", f"{cap(introduce(s, a, b))} saw {a} and came over.")
    s.add(say(s, b, f"Why are you {s.pick('sad', 'crying')}?", "asked"), say(s, b, "What is wrong?", "asked"))
    s.add(say(s, a, f"I lost my {full}."), say(s, a, f"I cannot find my {noun}."))
    s.add(say(s, b, "I will help you."), say(s, b, "Let us look for it together."), say(s, b, "Do not worry. We will find it!"))
    s.add(f"They looked and looked. {s.pick(LATER)}, {b} found the {noun} {spot}.", f"{s.pick(LATER)}, {b} looked {spot}, and there was the {full}!", f"{b} looked {spot}. \"Here it is!\" {b} said.")
    s.add(f"{b} gave the {noun} back to {a}.", f"{a} took the {noun} and hugged it.", f"{a} was so happy to have the {noun} back.")
    thank(s, a, b)
    s.end(a, b)
    s.ask(f"Where was the {noun}?", f"The {noun} was {spot}.")
    s.ask(f"Who found the {noun}?", f"{b} found the {noun}.")
    s.ask(f"What colour was the {noun}?", f"The {noun} was {full.split()[0]}.")


def share_food(s):
    a, b = s.hero(), s.hero()
    food = s.pick(SNACKS)
    at, to, _ = s.pick(PLACES)
    s.meet(a)
    s.add(f"{s.time()}, {a} went {to} with {an(food)}.", f"{s.time()}, {a} was sitting {at}. {a.He} had {an(food)} for lunch.", f"{s.time()}, {a} took {an(food)} and walked {to}.")
    s.weather()
    s.add(f"There {a.he} met {introduce(s, a, b)}.", f"{cap(introduce(s, a, b))} was there too.", f"{cap(introduce(s, a, b))} came along.")
    s.add(f"{b} looked {s.pick(SAD)}.", f"{b} looked tired and hungry.", f"{b} had nothing to eat.")
    s.add(say(s, a, "Are you hungry?", "asked"), say(s, a, "What is wrong?", "asked"))
    s.add(say(s, b, "Yes, I am very hungry."), say(s, b, "I forgot my lunch at home."), say(s, b, "I have not eaten today."))
    s.add(f"{a} cut the {food} in two and gave one half to {b}.", f"{a} broke the {food} in half. \"One half is for you, and one half is for me,\" {a} said.", f"So {a} shared the {food} with {b}.")
    s.add(f"They ate the {food} together.", f"They sat down and ate. The {food} tasted {s.pick('sweet', 'very good', 'wonderful')}.", f"{b} ate and was not hungry any more.")
    thank(s, b, a)
    s.add(f"The next day, {b} brought {an(s.pick(FRUITS))} and shared it with {a}.", f"From that day on, {a} and {b} were friends.", f"Then they played {s.pick(GAMES)} until the sun went down.", f"Sharing made {a} happy too.")
    s.end(a, b)
    s.ask(f"What did {a} share?", f"{a} shared {an(food)}.")
    s.ask(f"Who was hungry?", f"{b} was hungry.")


def rain(s):
    a, b = s.hero(), s.hero()
    at, to, place = s.pick(WILD)
    game = s.pick(GAMES)
    shelter = s.pick("a big tree", "a bridge", "an old barn", "a cave", "a little hut")
    s.add(f"{s.time()}, {a} and {b} went {to} to play {game}.", f"{s.time()}, {a} and {b} were playing {game} {at}.", f"{a} and {b} were friends. {s.time()}, they played {game} {at}.")
    s.weather()
    s.add("But then dark clouds came.", "Suddenly, the sky turned dark.", "Then the wind grew strong and the sky turned grey.")
    s.add("It began to rain.", "Big drops of rain fell down.", "It rained and rained.")
    s.add(say(s, a, "Oh no, we will get wet!", "cried"), say(s, b, "I am cold and wet!", "cried"), say(s, a, "We must find a dry place!", "said"))
    prep = "under" if "tree" in shelter or "bridge" in shelter else "into"
    s.add(f"{b} saw {shelter}. \"Come with me!\" {b} said, and they ran {prep} it.", f"They saw {shelter} and ran {prep} it.", f"{a} pointed to {shelter}. They ran as fast as they could.")
    s.maybe(f"It was dry there, and they told stories.", f"They sat close together to keep warm.", f"There they sang songs and waited.")
    s.add(f"{s.pick(LATER)}, the rain stopped and the sun came out.", f"{s.pick(LATER)}, the clouds went away.", "At last the rain was over.")
    s.add("There was a rainbow in the sky.", f"They saw a big rainbow over {place}.", "The sky was full of colours, because there was a rainbow.")
    s.add(say(s, b, f"Look, how {s.pick('pretty', 'beautiful')} it is!"), say(s, a, "I am glad that it rained!"), f"They jumped in the puddles and laughed.")
    s.end(a, b)
    s.ask(f"Why did {a} and {b} run?", "They ran because it began to rain.")
    s.ask(f"What did they see in the sky?", "They saw a rainbow in the sky.")


def stuck_animal(s):
    a = s.child()
    kin = s.kin(a, True)
    pet = s.pick(SMALL_ANIMALS)
    where, tool, how = s.pick(("up in a tree", "a ladder", "climbed up"), ("in a deep hole", "a rope", "climbed down"),
                              ("on a high roof", "a ladder", "climbed up"), ("in a thorny bush", "a pair of gloves", "reached in"),
                              ("in a muddy ditch", "a long board", "walked across"), ("under a fallen branch", "a strong stick", "lifted the branch"))
    at, to, _ = s.pick(PLACES)
    s.meet(a)
    s.add(f"{s.time()}, {a} was walking {to}.", f"{s.time()}, {a} was playing {at}.", f"{s.time()}, {a} went {to} alone.")
    s.add("Then a small sound came from somewhere.", f"{a} heard a small cry.", "There was a strange noise.")
    s.add(f"It was a little {pet}. It was stuck {where}.", f"A tiny {pet} was stuck {where}.", f"{a} looked around and saw a {pet} {where}. It could not get out.")
    s.add(say(s, a, f"Do not be afraid, little {pet}. I will help you!"), say(s, a, f"Poor little {pet}! I must help you."), f"The {pet} was very afraid.")
    s.add(f"{a} ran home to get {kin}.", f"{a} called {kin}.", f"But {a} could not do it alone, so {a.he} called {kin}.")
    s.add(f"{cap(str(kin))} brought {tool}.", f"{cap(str(kin))} came with {tool}.")
    s.add(f"{a} held {tool.split(' of ')[-1] if ' of ' in tool else 'the' + tool[tool.index(' '):]} while {kin} {how} and took the {pet} out." if "gloves" not in tool else f"{cap(str(kin))} put on the gloves, {how} and took the {pet} out.",
          f"{cap(str(kin))} {how} and {s.pick('gently', 'slowly', 'carefully')} got the {pet} out.")
    s.add(f"Now the {pet} was {s.pick('safe', 'free')}.", f"The {pet} was not afraid any more.", f"{a} held the {pet} in {a.his} arms.")
    s.add(f"{a} gave it some {s.pick('milk', 'water', 'food', 'bread')}.", f"The {pet} looked at {a} and then ran off to its mother.", f"The {pet} stayed with {a} and became {a.his} pet.")
    s.add(say(s, kin, f"You did the right thing, {a}."), say(s, kin, f"I am proud of you, {a}."), f"{cap(str(kin))} was proud of {a}.")
    s.end(a)
    s.ask(f"Where was the {pet}?", f"The {pet} was stuck {where}.")
    s.ask(f"What did {kin} bring?", f"{cap(str(kin))} brought {tool}.")


def new_friend(s):
    a, b = s.hero(), s.hero()
    at, to, _ = s.pick(PLACES)
    game = s.pick(GAMES)
    full, noun = s.thing()
    s.meet(a)
    s.add(f"{a} was new in town and had no friends.", f"{a} was lonely because {a.he} had no friends.", f"{a} wanted to have a friend.")
    s.add(f"{s.time()}, {a} went {to}.", f"{s.time()}, {a} was sitting alone {at}.")
    s.add(f"There {a.he} saw {an(b.what)} with {an(full)}.", f"{cap(an(b.what))} with {an(full)} came by.")
    s.add(say(s, a, "Hello! What is your name?", "asked"), f"{a} was shy, but {a.he} said, \"Hello! My name is {a}. What is your name?\"")
    s.add(say(s, b, f"My name is {b}."), say(s, b, f"I am {b}. It is nice to meet you!"))
    s.add(say(s, a, f"I like your {noun}."), say(s, a, f"What a nice {noun} you have!"), say(s, a, "Do you want to be my friend?", "asked"))
    s.add(say(s, b, f"Do you want to play {game} with me?", "asked"), say(s, b, f"Thank you! Let us play {game}."))
    s.add(f"They played {game} all {s.pick('day', 'afternoon', 'morning')}.", f"So {a} and {b} played {game} {at}.")
    s.add(f"When it was time to go home, {b} gave {a} the {full}. \"It is for you, because you are my friend,\" {b} said.",
          f"In the evening, they said goodbye. \"See you tomorrow!\" said {b}.", f"{a} was not lonely any more.")
    s.end(a, b)
    s.ask(f"What was the name of {a}'s new friend?", f"The name of {a}'s new friend was {b}.")
    s.ask(f"What did they play?", f"They played {game}.")


def baking(s):
    a = s.child()
    kin, b = s.kin(a, True), s.hero()
    what = s.pick("cake", "pie", "bread", "pizza")
    filling = s.pick("apples", "plums", "nuts", "cheese", "honey", "berries", "carrots")
    missing = s.pick("eggs", "milk", "flour", "sugar", "butter")
    s.add(f"{s.time()}, {a} and {kin} wanted to bake {what if what == 'bread' else 'a ' + what}.", f"{a} wanted to bake {what if what == 'bread' else 'a ' + what} with {kin}.")
    s.add(f"It was for {a}'s friend {b}.", f"Their friend {b} was coming for tea.")
    s.add(f"They put {filling} on the table.", f"They wanted to put {filling} in it.", f"{a} washed {a.his} hands and got the {filling}.")
    s.add(f"But there was one problem. They had no {missing}.", f"\"Oh no, we have no {missing}!\" said {a}.", f"Then {kin} said, \"We need {missing}, but we have none.\"")
    s.add(f"{a} ran to the shop and bought {missing}.", f"So {a} went next door and asked for some {missing}. The neighbour was kind and gave {a.him} some.", f"{a} took a coin, went to the market and came back with {missing}.")
    s.add(f"They mixed everything in a big bowl.", f"{a} stirred and stirred.", f"First they mixed the {missing} with the {filling}.")
    s.add(f"Then they put the {what} in the oven and waited.", f"{cap(str(kin))} put it in the hot oven.", f"Then the {what} went into the oven.")
    s.add(f"Soon the kitchen smelled {s.pick('sweet', 'wonderful', 'very good')}.", f"{s.pick(LATER)}, the {what} was ready.", f"The {what} came out {s.pick('warm and golden', 'hot and soft', 'round and brown')}.")
    s.add(f"{a} cut the {what} and gave {b} the first piece.", f"They ate the {what} with {b}.", f"{b} came, and they all ate the {what}.")
    s.add(say(s, b, f"This is the best {what} in the world!"), say(s, b, "It is so good! May I have some more?"), say(s, kin, f"You are a good cook, {a}."))
    s.end(a)
    s.ask("What did they bake?", f"They baked {what if what == 'bread' else 'a ' + what}.")
    s.ask("What was missing?", f"They had no {missing}.")


def garden(s):
    a = s.hero()
    plant = s.pick(PLANTS)
    helper = s.pick("grandmother", "mother", "father", "neighbour", "friend")
    s.meet(a)
    s.add(f"{s.time()}, {a} found a {s.pick('small', 'tiny', 'little')} seed.", f"{s.time()}, {a.his} {helper} gave {a} a {s.pick('small', 'tiny', 'little')} seed.")
    s.add(say(s, a, f"What will it be?", "asked"), say(s, a, "I will plant it in the garden."))
    s.add(f"{a} made a hole in the ground and put the seed in it.", f"{a} planted the seed in the soft ground.")
    s.add(f"Every day, {a} gave it water.", f"{a.He} watered it every morning.", f"{a} gave it water, and the sun gave it light.")
    s.add("One day passed, and two days passed, but nothing grew.", f"At first, nothing happened, and {a} was {s.pick(SAD)}.", f"{a} waited and waited.")
    s.maybe(f"\"You must wait,\" said {a.his} {helper}. \"Good things take time.\"", f"\"Be patient,\" {a.his} {helper} said.")
    s.add("Then a little green leaf came out of the ground.", f"One morning, {a} saw a small green leaf.", "After a week, a green leaf came up.")
    s.add(f"It grew and grew. It was a {plant}!", f"It grew bigger every day, and at last it was a big {plant}.", f"Day by day it grew, until there was a fine {plant} in the garden.")
    s.add(say(s, a, f"Look at my {plant}!", "cried"), say(s, a, f"I grew a {plant} all by myself!"), f"{a} was so proud of the {plant}.")
    if plant == "sunflower":
        s.add("The sunflower was taller than the fence.", "Bees came to visit the yellow sunflower.")
    else:
        s.add(f"{a} made soup from the {plant} and shared it with all {a.his} friends." if plant in ("carrot", "pumpkin", "tomato", "bean", "turnip") else f"{a} shared the sweet {plant} with all {a.his} friends.", f"{a} ate the {plant}, and it was very good.")
    s.end(a)
    s.ask(f"What grew in the garden?", f"A {plant} grew in the garden.")
    s.ask(f"What did {a} do every day?", f"{a} gave the seed water every day.")


def broken_toy(s):
    a, b = s.hero(), s.hero()
    full, noun = s.thing()
    s.add(f"{a} and {b} were good friends.", f"{a} and {b} lived in the same street.", f"{a} was {an(a.what)}, and {b} was {an(b.what)}. They were friends.")
    s.add(f"{a} had {an(full)}.", f"{a} got {an(full)} for {a.his} birthday.")
    s.add(say(s, b, f"May I play with your {noun}?", "asked"), say(s, b, f"Can I have the {noun} for one day?", "asked"))
    s.add(say(s, a, "Yes, but please be careful."), say(s, a, "Yes, you may."), say(s, a, "Of course! We are friends."))
    s.add(f"{b} played with the {noun}, but then {b.he} fell, and the {noun} broke.", f"But {b} dropped the {noun}, and it broke.", f"{b} was not careful. The {noun} fell down and broke.")
    s.add(f"{b} was {s.pick(SAD)} and afraid.", f"{b} did not know what to do.", f"{b} felt bad about it.")
    s.add(f"{b} went to {a} and told the truth.", f"{b} took the broken {noun} and went to {a}.")
    s.add(say(s, b, f"I am sorry. I broke your {noun}."), say(s, b, f"I am so sorry, {a}. Your {noun} is broken."))
    s.add(f"{a} was {s.pick('sad', 'angry')} at first. Then {a.he} said, \"It is good that you told me.\"", say(s, a, "Thank you for telling me. We can fix it."), say(s, a, "Do not worry. We can mend it together."))
    s.add(f"They took some {s.pick('glue', 'tape', 'string')} and fixed the {noun}.", f"{a}'s {s.pick('father', 'mother', 'grandfather')} helped them, and soon the {noun} was as good as new.")
    s.add(f"Then {a} and {b} played with the {full} together.", f"From then on, {b} was always careful.", f"{b} learned to be careful with other people's things.")
    s.end(a, b)
    s.ask(f"Who broke the {noun}?", f"{b} broke the {noun}.")
    s.ask(f"Whose {noun} was it?", f"It was {a}'s {noun}.")


def night_noise(s):
    a = s.child()
    kin = s.kin(a, True)
    pet = s.pick("cat", "owl", "mouse", "dog", "bird", "hedgehog", "squirrel")
    noise = s.pick("a knock", "a scratch", "a bump", "a tap", "a squeak")
    where = s.pick("at the window", "under the bed", "behind the door", "in the kitchen", "on the stairs", "in the cupboard")
    s.meet(a, ", who was afraid of the dark" if s.chance(0.5) else "")
    s.add(f"One night, {a} was lying in bed.", f"One night, {a} could not sleep.", f"It was late, and {a} was in bed.")
    s.add("The moon was bright and the house was quiet.", "It was dark and quiet.", "The wind blew outside.")
    s.add(f"Suddenly, there was {noise} {where}.", f"Then {a} heard {noise} {where}.")
    s.add(say(s, a, "Who is there?", "whispered"), say(s, a, "Is it a monster?", "whispered"), f"{a} hid under the blanket.")
    s.add(f"{a} called {kin}.", f"{a} ran to {kin}.", f"\"Please come!\" {a} called, and {kin} came.")
    s.add(f"{cap(str(kin))} took {a.his} hand, and they went to look with a lamp.", f"{cap(str(kin))} lit a lamp. \"Let us look together,\" {kin.he} said.")
    s.add(f"They looked {where}. It was only a little {pet}!", f"There was no monster {where}. There was only a {pet}.")
    s.add(f"The {pet} was {s.pick('cold', 'hungry', 'lost', 'looking for food')}.", f"The {pet} was more afraid than {a}.", f"{a} laughed. \"You gave me a fright, little {pet}!\"")
    s.add(f"{a} gave the {pet} some {s.pick('milk', 'water', 'bread', 'food')}.", f"They let the {pet} out into the garden.", f"The {pet} slept in a basket that night.")
    s.add(f"Then {a} went back to bed and slept well.", f"After that, {a} was not afraid of the dark any more.", say(s, a, f"Good night, little {pet}."))
    s.ask("What made the noise?", f"A {pet} made the noise.")
    s.ask("Where was the noise?", f"The noise was {where}.")


def treasure(s):
    a, b = s.hero(), s.hero()
    at, to, place = s.pick(WILD)
    full, noun = s.thing()
    key = s.pick(SPOTS)
    s.add(f"{s.time()}, {a} and {b} were walking {to}.", f"{s.time()}, {a} found an old map. {a.He} showed it to {b}, and they went {to}.", f"{a} and {b} liked to look for treasure. {s.time()}, they went {to}.")
    s.weather()
    s.add(f"{a} saw a {s.pick('wooden', 'rusty', 'dusty')} chest in the ground.", f"They dug in the ground and found an old chest.", f"There, {at}, they found an old chest.")
    s.add(f"{b} tried to open it, but it was locked.", "The chest was locked.", f"\"It will not open,\" said {b}. \"We need a key.\"")
    s.add("They looked for the key for a long time.", say(s, a, "Let us find the key!"), "Where could the key be?")
    s.add(f"{s.pick(LATER)}, {a} found the key {key}.", f"At last, {a} looked {key} and found a small key.")
    s.add(f"{a} put the key in the lock and turned it.", "The key fit, and the chest opened.")
    s.add(f"Inside was {an(full)}!", f"In the chest there was {an(full)}.")
    s.add(say(s, b, "What a treasure!", "cried"), say(s, b, f"I always wanted {an(noun)}!"), say(s, a, "We found a real treasure!", "cried"))
    s.add(f"{a} let {b} keep the {noun}, and {b} let {a} keep the key.", f"They took turns with the {noun}, so it belonged to both of them.", f"They gave the {noun} to {a}'s little {s.pick('sister', 'brother')}.")
    s.end(a, b)
    s.ask("What was in the chest?", f"There was {an(full)} in the chest.")
    s.ask("Where was the key?", f"The key was {key}.")


def birthday(s):
    a, b = s.hero(), s.hero()
    full, noun = s.thing()
    food = s.pick("cake", "pie", "pudding")
    s.add(f"It was {b}'s birthday.", f"{s.time()}, it was {b}'s birthday.", f"Tomorrow was {b}'s birthday.")
    s.add(f"{b.His} friend {a} wanted to give {b.him} a present.", f"{a} wanted to find a good present for {b}.")
    s.add(f"But {a} had no money.", f"{a} thought and thought.", f"\"What does {b} like?\" {a} asked.")
    s.add(f"{a} remembered that {b} had lost {b.his} {noun}.", f"{a} knew that {b} wanted {an(noun)}.")
    s.add(f"So {a} worked all day and made {an(full)}.", f"So {a} went home and made {an(full)} with {a.his} own hands.", f"So {a} helped at the market, got some coins and bought {an(full)}.")
    s.add(f"{a} put the {noun} in a box with a {s.fresh(COLOURS)} ribbon.", f"{a} hid the {noun} behind {a.his} back.")
    s.add(f"At the party, there was a big {food}.", f"All the friends came and sang a song.", f"In the afternoon, {a} went to {b}'s house.")
    s.add(say(s, a, f"Happy birthday, {b}! This is for you."), f"\"Happy birthday!\" said {a}, and gave {b} the present.")
    s.add(f"{b} opened the box and saw the {full}.", f"{b} saw the {full} and jumped for joy.")
    s.add(say(s, b, f"It is just what I wanted!"), say(s, b, "This is the best present of all!"), say(s, b, f"{cap(an(full))}! Thank you, {a}!", "cried"))
    s.maybe(f"Then they ate the {food} together.", f"Everyone had some {food}.")
    s.end(a, b)
    s.ask(f"What did {a} give {b}?", f"{a} gave {b} {an(full)}.")
    s.ask("Whose birthday was it?", f"It was {b}'s birthday.")


def race(s):
    a, b = s.animal(), s.animal()
    judge = s.fresh(ANIMALS)
    at, to, _ = s.pick(WILD)
    goal = s.pick("the old oak tree", "the bridge", "the big rock", "the mill", "the gate")
    s.add(f"{a} the {a.what} and {b} the {b.what} wanted to have a race.", f"{s.time()}, {a} the {a.what} said to {b} the {b.what}, \"I am faster than you!\"")
    s.add(say(s, b, f"Let us run to {goal}."), f"They wanted to run to {goal}.")
    s.add(f"The {judge} counted, \"One, two, three, go!\"", f"An old {judge} started the race.")
    s.add(f"{a} ran very fast. {b} was slow.", f"At first, {a} was far ahead of {b}.", f"{a} was soon far ahead.")
    if s.chance(0.5):
        s.add(f"\"I have time for a nap,\" thought {a}, and lay down under a tree.", f"{a} stopped to sleep, because {a.he} was so sure to win.")
        s.add(f"But {b} did not stop. {b.He} went on and on.", f"{b} kept going, step by step.")
        s.add(f"When {a} woke up, {b} was already at {goal}.", f"{a} woke up and ran, but it was too late.")
        s.add(f"{b} won the race!", f"So {b} was the winner.")
        s.add(say(s, a, f"Well done, {b}. You did not give up."), f"{a} learned not to boast.", "Slow and steady wins the race.")
        winner = b
    else:
        s.add(f"But then {b} fell and hurt {b.his} foot.", f"Then {b} fell into a puddle.")
        s.add(f"{a} heard {b} cry and stopped.", f"{a} looked back and saw it.")
        s.add(f"{a} ran back to help {b}.", say(s, a, "A friend is more important than a race."))
        s.add(f"They walked to {goal} together.", f"{a} helped {b} up, and they went on side by side.")
        s.add(f"\"You both win!\" said the {judge}.", f"The {judge} gave them both a prize.")
        winner = None
    s.end(a, b)
    s.ask("Who won the race?", f"{winner} won the race." if winner else f"{a} and {b} both won.")
    s.ask("Where did they run to?", f"They ran to {goal}.")


def lost_way(s):
    a = s.hero()
    guide = s.fresh(["bird", "owl", "deer", "squirrel", "butterfly", "old man", "woodcutter", "turtle"])
    goods = s.pick("berries", "mushrooms", "flowers", "nuts", "wood", "leaves")
    sign = s.pick("a tall tree", "a white stone", "a small stream", "a red bridge", "an old mill")
    s.meet(a)
    s.add(f"{s.time()}, {a} went into the forest to look for {goods}.", f"{s.time()}, {a.his} mother asked {a} to get some {goods} from the forest.")
    s.add(f"{a} walked and walked, and {a.his} basket was soon full of {goods}.", f"{a} found many {goods}.")
    s.add("But then it grew dark.", f"But when {a} wanted to go home, {a.he} did not know the way.", "Suddenly, all the trees looked the same.")
    s.add(say(s, a, "Oh no, I am lost!", "cried"), say(s, a, "Where is my home?", "cried"), f"{a} was lost and afraid.")
    s.add(f"Then {an(guide)} came by.", f"{cap(an(guide))} heard {a} and came near.")
    s.add(f"\"Do not cry,\" said the {guide}. \"Where do you live?\"", f"\"Can I help you?\" asked the {guide}.")
    s.add(say(s, a, "I live in the village by the river."), say(s, a, "I want to go home, but I do not know the way."))
    s.add(f"\"First go to {sign}, then turn {s.pick('left', 'right')},\" said the {guide}.", f"\"Follow me,\" said the {guide}, and they went past {sign}.")
    s.add(f"{s.pick(LATER)}, {a} saw the lights of home.", f"{s.pick(LATER)}, {a} was home again.")
    s.add(f"{a} gave some {goods} to the {guide}.", f"\"Thank you, kind {guide}!\" said {a}.", f"{a} thanked the {guide}.")
    s.add(f"{a.His} mother was glad and made {s.pick('soup', 'tea', 'a pie')}.", f"{a.His} mother hugged {a} for a long time.")
    s.ask(f"What did {a} look for?", f"{a} looked for {goods}.")
    s.ask(f"Who helped {a}?", f"The {guide} helped {a}.")


def wind_takes(s):
    a, b = s.hero(), s.hero()
    at, to, _ = s.pick(WILD)
    colour = s.fresh(COLOURS)
    noun, place, how = s.pick(("kite", "in a tall tree", "climbed the tree"), ("hat", "on a roof", "used a ladder"), ("boat", "in the middle of the pond", "used a long stick"),
                              ("scarf", "on a high fence", "climbed up"), ("balloon", "in a tree", "flew up" if b.what in ("owl", "duck") else "climbed up"), ("paper plane", "on a high wall", "jumped up"))
    s.meet(a, s.pick("", f" with a {colour} {noun}" if colour != "orange" else ""))
    s.add(f"{s.time()}, {a} took {a.his} {colour} {noun} {to}.", f"{s.time()}, {a} was {at} with {an(colour)} {noun}.")
    s.add("The wind was very strong.", "It was a windy day.", f"{a} was happy, because there was a good wind.")
    s.add(f"Suddenly, the wind took the {noun} away.", f"A big gust of wind came, and the {noun} flew off.")
    s.add(f"{a} ran after it, but it landed {place}.", f"Now the {noun} was {place}.")
    s.add(say(s, a, f"My {noun}! I cannot reach it!", "cried"), f"{a} tried to get it, but {a.he} was too small.")
    s.add(f"{cap(introduce(s, a, b))} was near and saw it.", f"Just then, {introduce(s, a, b)} came by.")
    s.add(say(s, b, "I can help you."), say(s, b, f"Do not be sad, {a}. I will get it."))
    s.add(f"{b} {how} and got the {noun}.", f"{b} {how}. {s.pick(LATER)}, {b.he} had the {noun}.")
    s.add(f"{b} gave the {colour} {noun} to {a}.", f"\"Here is your {noun},\" {b} said.")
    thank(s, a, b)
    s.add(f"Then they played with the {noun} together.", f"After that, {a} held the {noun} tight.")
    s.end(a, b)
    s.ask(f"Where was the {noun}?", f"The {noun} was {place}.")
    s.ask(f"Who got the {noun} back?", f"{b} got the {noun} back.")


def market(s):
    a = s.child()
    kin = s.kin(a, True)
    n = s.rng.randint(2, 6)
    x, y = s.fresh(FRUITS), s.fresh(FRUITS)
    seller = s.pick("farmer", "baker", "old woman", "old man")
    s.add(f"{s.time()}, {a} went to the market.", f"{s.time()}, {a.his} {kin.what} sent {a} to the market.")
    s.add(f"{a} had {NUMBERS[n]} coins in {a.his} pocket.", f"{cap(a.his)} {kin.what} had given {a} {NUMBERS[n]} coins.")
    s.add(f"At the market there were {plural(x)}, {plural(y)} and {s.pick('flowers', 'eggs', 'cheese', 'fish', 'bread')}.", f"The market was full of people and {s.pick('colours', 'noise', 'good smells')}.")
    s.add(f"\"How much is one {x}?\" {a} asked the {seller}.", f"{a} saw a {s.pick('big', 'sweet', 'fine')} {x}. \"What does it cost?\" asked {a}.")
    s.add(f"\"One {x} is one coin,\" said the {seller}.", f"\"One coin,\" the {seller} answered.")
    s.add(f"{a} bought one {x} and had {NUMBERS[n-1]} coin{'s' if n > 2 else ''} left.")
    if n >= 3:
        s.maybe(f"Then {a} bought one {y} for one coin and had {NUMBERS[n-2]} coin{'s' if n > 3 else ''} left.")
    s.add(f"On the way home, {a} saw a poor man who was hungry. {a} gave him the {x}.", f"At home, {a} gave the {x} to {kin}.", f"{a} ate the {x} on the way home. It was sweet.")
    s.add(say(s, kin, f"You did well, {a}."), f"{cap(str(kin))} was proud of {a}.", say(s, kin, "Thank you for your help!"))
    s.end(a)
    s.ask(f"How many coins did {a} have at first?", f"{a} had {NUMBERS[n]} coins at first.")


def trade(s):
    a, b = s.hero(), s.hero()
    full1, n1 = s.thing()
    full2, n2 = s.thing()
    at, to, _ = s.pick(PLACES)
    s.add(f"{a} had {an(full1)}, and {b} had {an(full2)}.", f"{a} was {an(a.what)} with {an(full1)}. {b} was {an(b.what)} with {an(full2)}.")
    s.add(f"{s.time()}, they met {at}.", f"{s.time()}, they both went {to}.")
    s.add(say(s, a, f"I like your {n2}."), say(s, a, f"What a fine {n2}! I wish I had one."))
    s.add(say(s, b, f"And I like your {n1}."), say(s, b, f"Thank you! But your {n1} is nice too."))
    s.add(say(s, a, "Do you want to trade?", "asked"), say(s, a, f"You can have my {n1}, if I can have your {n2}."))
    s.add(say(s, b, "Yes, that is a good idea!"), f"{b} thought about it and said yes.")
    s.add(f"So {a} gave {b} the {full1}, and {b} gave {a} the {full2}.")
    s.add(f"Now {a} had the {n2}, and {b} had the {n1}.", f"Now the {n2} belonged to {a}, and the {n1} belonged to {b}.")
    s.add(f"{a} played with the {n2} all day.", f"{b} took the {n1} home and showed it to {b.his} {s.pick('mother', 'father', 'sister')}.", f"They played together until evening.")
    s.end(a, b)
    s.ask(f"Who has the {n1} now?", f"{b} has the {n1} now.")
    s.ask(f"Who has the {n2} now?", f"{a} has the {n2} now.")


def sick_friend(s):
    a, b = s.hero(), s.hero()
    food = s.pick("soup", "tea", "bread and honey", "porridge", "an orange", "a pot of jam")
    full, noun = s.thing()
    s.add(f"{a} and {b} played together every day.", f"{a} and {b} were best friends.")
    s.add(f"But {s.pick('one day', 'one morning', 'on Monday', 'one afternoon')}, {b} did not come.", f"But {s.pick('one day', 'one morning', 'on Friday')}, {b} was ill and stayed in bed.")
    s.add(f"{a} went to {b}'s house and knocked on the door.", f"{a} wanted to know why, so {a.he} went to visit {b}.")
    s.add(f"{b} was in bed. \"I am ill,\" {b} said. \"My head is hot.\"", f"\"I have a cold,\" said {b} from the bed.")
    s.add(say(s, a, "I will help you get well."), f"{a} was sorry for {b}.", say(s, a, f"Poor {b}! I will look after you."))
    s.add(f"{a} ran home and brought {food}.", f"{a} went to the kitchen and came back with {food}.")
    s.add(f"{a} also brought {an(full)}, so that {b} would not be sad.", f"Then {a} read {b} a long story.", f"{a} sat by the bed and sang a song.")
    s.add(f"{b} had some of the {food} and felt better." if not food.startswith("a") else f"{b} had {food} and felt better.", f"{b} slept for a long time.")
    s.add("After three days,", "The next day,", "Two days later,")
    s.parts[-1] += f" {b} was well again."
    s.add(say(s, b, "I got well because you helped me."), say(s, b, f"You are a true friend, {a}."), f"{b} thanked {a} and they went out to play.")
    s.end(a, b)
    s.ask("Who was ill?", f"{b} was ill.")
    s.ask(f"What did {a} bring?", f"{a} brought {food}.")


def snow(s):
    a, b = s.hero(), s.hero()
    nose = s.pick("carrot", "stone", "stick", "pear")
    hat = s.fresh(COLOURS) + " " + s.pick("hat", "scarf", "bucket", "cap")
    s.add(f"One winter morning, {a} looked out of the window.", f"It was winter. {a} woke up early.")
    s.add("Everything was white.", "Snow was falling from the sky.", "The whole garden was full of snow.")
    s.add(say(s, a, "It is snowing!", "cried"), f"{a} put on a warm coat and ran outside.")
    s.add(f"{introduce(s, a, b)} came too.", f"{a} called {introduce(s, a, b)}.")
    s.parts[-1] = cap(s.parts[-1])
    s.add(say(s, b, "Let us make a snowman!"), f"They wanted to make a snowman.")
    s.add("First they made a big ball, then a small one.", f"{a} made a big ball of snow, and {b} made a small one.")
    s.add(f"They used {an(nose)} for the nose.", f"{b} brought {an(nose)} for the nose.")
    s.add(f"{a} gave the snowman {an(hat)}.", f"Then {a} put {an(hat)} on the snowman.")
    s.add("It looked very funny.", "The snowman smiled at them.", f"\"Hello, snowman!\" said {b}.")
    if s.chance(0.5):
        s.add("But the next day, the sun was warm, and the snowman melted.", "After a week, it grew warm, and the snowman was gone.")
        s.add(f"Only the {nose} and the {hat} were left.")
        s.add(say(s, b, "Do not be sad. We will make a new one next winter."), f"{a} was sad, but {b} said, \"The snow will come back.\"")
    else:
        s.add("Then they went inside, because they were cold.", f"In the evening, they drank hot milk by the fire.")
        s.add("The snowman stood in the garden all winter.", "The moon shone on the snowman.")
    s.ask("What was the snowman's nose?", f"The snowman's nose was {an(nose)}.")
    s.ask(f"What did {a} put on the snowman?", f"{a} put {an(hat)} on the snowman.")


def truth(s):
    a = s.child()
    kin = s.kin(a, True)
    full = f"{s.fresh(COLOURS)} {s.pick('vase', 'cup', 'plate', 'lamp', 'bowl', 'window', 'jar')}"
    noun = full.split()[1]
    why = s.pick("playing with a ball in the house", "running in the kitchen", "jumping on the sofa", "dancing in the room")
    pet = s.pick("cat", "dog")
    s.meet(a)
    s.add(f"{s.time()}, {a} was {why}.", f"{s.time()}, {a} was alone at home and was {why}.")
    s.add(f"Crash! The {full} broke.", f"Then there was a crash. {cap(a.his)} {kin.what}'s {full} was broken.")
    s.add(f"{a} was afraid that {kin} would be angry.", f"\"What shall I do?\" thought {a}.")
    s.add(f"{s.pick(LATER)}, {kin} came home.", f"{cap(str(kin))} came into the room.")
    s.add(say(s, kin, f"Who broke the {noun}?", "asked"), say(s, kin, f"What happened to my {noun}?", "asked"))
    s.add(f"At first, {a} wanted to say that it was the {pet}.", f"{a} looked at the {pet}. It would be easy to say that the {pet} did it.")
    s.add(f"But {a} told the truth. \"I broke it. I am sorry.\"", f"Then {a} said, \"It was me. I was {why}. I am sorry.\"")
    s.add(say(s, kin, f"Thank you for telling the truth."), f"{cap(str(kin))} was not angry. \"You are honest, and that is more important than a {noun},\" {kin.he} said.")
    s.add("They cleaned the floor together.", f"Together they {s.pick('swept the floor', 'picked up the pieces')}.")
    s.add(f"{a} felt much better.", f"{a} did not play like that in the house again.")
    s.ask(f"Who broke the {noun}?", f"{a} broke the {noun}.")
    s.ask(f"Was {kin} angry?", f"No, {kin} was not angry, because {a} told the truth.")


def bedtime(s):
    a = s.hero()
    kin = s.kin(a, True)
    x = s.fresh(ANIMALS)
    wish = s.pick("fly to the moon", "swim in the sea", "climb a mountain", "sail around the world", "find a star")
    s.add(f"It was night, but {a} could not sleep.", f"The stars were out, but little {a} was still awake.", f"{a} lay in bed and looked at the moon.")
    s.add(say(s, a, "I cannot sleep."), f"{a} called {kin}. \"I am not tired,\" {a.he} said.")
    s.add(f"{cap(str(kin))} sat down on the bed.", f"{cap(str(kin))} came into the room with a candle.")
    s.add(say(s, kin, "Shall I tell you a story?", "asked"), say(s, kin, f"I will tell you a story about {an(x)}."))
    s.add(say(s, a, "Yes, please!"), f"{a} nodded.")
    s.add(f"\"Once there was {an(x)} who wanted to {wish},\" {kin} began.", f"So {kin} told a story about {an(x)} who wanted to {wish}.")
    s.add(f"\"Everyone laughed, but the {x} tried again and again.\"", f"\"The {x} asked the {s.pick('wind', 'moon', 'river', 'sun')} for help.\"")
    s.add(f"\"And at last, the {x} could do it.\"", f"\"In the end, the {x} did {wish}, and was the happiest {x} of all.\"")
    s.add(f"When the story was over, {a} was asleep.", f"{a} closed {a.his} eyes and slept.", f"{cap(str(kin))} kissed {a} and turned off the light.")
    s.add(f"That night, {a} had a dream about the {x}.", "Good night!", f"{cap(str(kin))} smiled and closed the door.")
    s.ask("What was the story about?", f"The story was about {an(x)} who wanted to {wish}.")


def first_day(s):
    a, b = s.child(), s.child()
    kin = s.kin(a, True)
    like = s.pick("drawing", "reading", "singing", "counting", "football", "painting")
    s.add(f"It was {a}'s first day at school.", f"Today, {a} went to school for the first time.")
    s.add(f"{cap(str(kin))} walked with {a} to the school.", f"{a} had a new {s.fresh(COLOURS)} bag.")
    s.add(f"{a} was {s.pick('nervous', 'shy', 'afraid')}.", say(s, a, "What if nobody likes me?", "asked"))
    s.add(say(s, kin, "You will find a friend. Just be kind."), say(s, kin, "Everything will be fine."))
    s.add(f"In the classroom, {a} sat next to a {b.what} named {b}.", f"The teacher said, \"Please sit next to {b}.\"")
    s.add(say(s, b, f"Hello! I like {like}. What do you like?"), f"{b} smiled and asked, \"Do you like {like}?\"")
    s.add(say(s, a, f"I like {like} too!"), f"{a} was surprised. \"Yes, I like {like} very much!\"")
    s.add(f"At lunch, they shared {an(s.pick(SNACKS))}.", f"At noon, they played {s.pick(GAMES)} in the yard.", f"{b} showed {a} the whole school.")
    s.add(f"After school, {kin} was waiting at the gate.", f"In the afternoon, {a} went home.")
    s.add(say(s, kin, "How was your day?", "asked"), f"{cap(str(kin))} asked about the day.")
    s.add(say(s, a, f"It was great! My new friend is {b}."), say(s, a, f"I love school! I sit next to {b}."))
    s.ask(f"Who sat next to {a}?", f"{b} sat next to {a}.")
    s.ask(f"What did {b} like?", f"{b} liked {like}.")


def stray_pet(s):
    a = s.child()
    kin = s.kin(a, True)
    pet = s.pick("puppy", "kitten", "duckling", "lamb", "rabbit")
    colour, name = s.fresh(COLOURS[6:9]), s.fresh(PET_NAMES)
    s.add(f"{s.time()}, {a} was walking home from {s.pick('school', 'the park', 'the market')}.", f"{s.time()}, it was cold, and {a} walked home fast.")
    s.add(f"A small {colour} {pet} followed {a.him}.", f"{a} saw a small {colour} {pet} by the road.")
    s.add(f"The {pet} was {s.pick('thin', 'wet', 'cold', 'hungry')} and had no home.", f"It looked at {a} with big eyes.")
    s.add(say(s, a, f"Are you lost, little {pet}?", "asked"), say(s, a, "You can come with me."))
    s.add(f"{a} took the {pet} home.", f"{a} put the {pet} under {a.his} coat and went home.")
    s.add(say(s, a, f"May I keep the {pet}?", "asked"), f"\"Please, may it stay?\" {a} asked {kin}.")
    s.add(say(s, kin, "Yes, but you must feed it every day."), say(s, kin, "You may, if you take good care of it."))
    s.add(f"{a} named the {pet} {name}.", say(s, a, f"I will call you {name}."))
    s.add(f"{a} gave {name} {s.pick('food', 'milk', 'water')} and a warm {s.pick('bed', 'basket', 'box')}.", f"{name} ate everything and fell asleep.")
    s.add(f"Every day after school, {a} played with {name}.", f"{name} slept at the foot of {a}'s bed.", f"From that day on, {name} went everywhere with {a}.")
    s.end(a)
    s.ask(f"What was the name of the {pet}?", f"The name of the {pet} was {name}.")
    s.ask(f"What colour was the {pet}?", f"The {pet} was {colour}.")


def fishing(s):
    a = s.hero()
    kin = s.kin(a, True)
    colour = s.fresh(COLOURS)
    place = s.pick("lake", "river", "pond", "sea")
    s.add(f"{s.time()}, {a} went fishing with {kin}.", f"{s.time()}, {a} and {kin} sat in a boat with a fishing rod.")
    s.add(f"The water of the {place} was {s.pick('calm', 'clear', 'blue', 'cold')}.", f"They went to the {place}.")
    s.add("They waited for a long time.", f"They were quiet, because fish do not like noise.")
    s.add(f"Then something pulled at the line.", f"Suddenly, {a} felt a pull.")
    s.add(say(s, a, "I have a fish!", "cried"), say(s, kin, "Pull, pull!", "cried"))
    s.add(f"{a} pulled and pulled, and out came {an(colour)} fish.", f"It was {an(colour)} fish!")
    s.add(f"\"Please let me go,\" said the fish. \"I want to go back to my children.\"", "The fish looked at them with sad eyes.", f"The fish was very small.")
    s.add(f"{a} felt sorry for the {colour} fish.", say(s, a, "It is so small. May we let it go?", "asked"))
    s.add(f"So {a} put the fish back into the {place}.", f"{a} let the fish go.")
    s.add(f"The {colour} fish jumped out of the water one more time to say thank you.", "It swam away as fast as it could.")
    s.add(f"For dinner, they had {s.pick(FOODS)}.", say(s, kin, f"You have a good heart, {a}."))
    s.ask("What colour was the fish?", f"The fish was {colour}.")
    s.ask("What did they do with the fish?", "They let it go.")


def hide_and_seek(s):
    a, b, c = s.hero(), s.hero(), s.hero()
    at, to, _ = s.pick(PLACES)
    p, q = s.fresh(SPOTS), s.fresh(SPOTS)
    s.add(f"{s.time()}, {a}, {b} and {c} played hide and seek {at}.", f"{a}, {b} and {c} were friends. {s.time()}, they played hide and seek {at}.")
    s.add(f"{a} closed {a.his} eyes and counted to ten.", f"{a} counted, \"One, two, three, four, five!\"")
    s.add(f"{b} hid {p}, and {c} hid {q}.", f"{b} hid {p}. {c} hid {q}.")
    s.add(say(s, a, "Here I come!", "called"), say(s, a, "Where are you?", "called"))
    s.add(f"First {a} looked {p} and found {b}.", f"{a} heard a laugh and looked {p}. There was {b}!")
    s.add(f"But where was {c}?", f"Now {a} had to find {c}.", f"{c} was harder to find.")
    s.add(f"{a} and {b} looked everywhere.", f"{b} helped {a} to look.")
    s.add(f"At last, they looked {q}, and there was {c}.", f"{s.pick(LATER)}, {a} found {c} {q}.")
    s.add(f"{c} had fallen asleep!", f"\"You found me!\" laughed {c}.", f"\"That was a good place,\" {a} said to {c}.")
    s.add(f"Then it was {b}'s turn to count.", f"Then it was {c}'s turn to look for the others.", "They played until dinner.")
    s.end(a, b, c)
    s.ask(f"Where did {b} hide?", f"{b} hid {p}.")
    s.ask(f"Where did {c} hide?", f"{c} hid {q}.")


def picnic(s):
    a, b, c = s.hero(), s.hero(), s.hero()
    at, to, _ = s.pick(WILD)
    f1, f2, f3 = s.fresh(FOODS), s.fresh(FOODS), s.fresh(FOODS)
    s.add(f"{s.time()}, {a}, {b} and {c} had a picnic {at}.", f"{a} asked {b} and {c} to come {to} for a picnic.")
    s.weather()
    s.add(f"{a} brought {f1}, {b} brought {f2}, and {c} brought {f3}.", f"{a} had {f1}. {b} had {f2}. {c} had {f3}.")
    if s.chance(0.5):
        s.add(f"But then some ants came and took the {f2}.", f"But a hungry {s.fresh(ANIMALS)} came and ate the {f2}.", f"But {b} fell down, and the {f2} was gone.")
        s.add(f"{b} was {s.pick(SAD)}. \"Now I have nothing,\" {b} said.", say(s, b, "My lunch is gone!", "cried"))
        s.add(f"{a} gave {b} some {f1}, and {c} gave {b} some {f3}.", f"So {a} and {c} shared the {f1} and the {f3} with {b}.")
        s.add("So there was enough for all of them.", say(s, b, "You are good friends!"))
        s.ask("What was gone?", f"The {f2} was gone.")
    else:
        s.add(f"They put a {s.fresh(COLOURS)} blanket on the grass and sat down.", "They all shared their food.")
        s.add(f"The {f1} was the best of all.", f"{c} liked the {f2} best.")
        s.add(f"After lunch, they played {s.pick(GAMES)}.", f"After lunch, they slept in the grass.")
        s.ask(f"Who brought the {f3}?", f"{c} brought the {f3}.")
    s.add("In the evening, they walked home together.", "They stayed until the sun went down.")
    s.end(a, b, c)
    s.ask(f"What did {a} bring?", f"{a} brought {f1}.")


def found_thing(s):
    a = s.hero()
    owner = s.pick("an old woman", "a farmer", "a sailor", "a teacher", "a baker", "a tall man", "a postman", "the queen")
    the = "the " + owner.split(" ", 1)[1]
    he, his = ("she", "her") if owner in ("an old woman", "a teacher", "the queen") else ("he", "his")
    thing = s.pick("a ring", "a letter", "a purse", "a key", "a watch", "a bag", "a coin")
    noun = thing[2:]
    reward = s.pick("an apple", "a cake", "a warm bun", "a golden coin", "a story", "a flower")
    s.meet(a)
    s.add(f"{s.time()}, {a} found {thing} on the road.", f"{s.time()}, {a} saw {thing} in the grass.")
    s.add(say(s, a, f"Whose {noun} is this?", "asked"), f"{a} wanted to give the {noun} back.")
    s.add(f"{a} asked {an(s.fresh(ANIMALS))}, but it was not the owner.", f"{a} asked everyone in the village.", f"{a} could have kept it, but that would not be right.")
    s.add(f"Then {a} met {owner}, who was looking for something.", f"{s.pick(LATER)}, {a} saw {owner} who looked {s.pick(SAD)}.")
    s.add(say(s, a, "Did you lose something?", "asked"), say(s, a, f"Is this your {noun}?", "asked"))
    s.add(f"\"Yes, that is my {noun}!\" said {the}. \"I looked for it all day.\"", f"\"I lost my {noun}. Did you find it?\" asked {the}.")
    s.add(f"{a} gave the {noun} to {the}.", f"{a} gave it back at once.")
    s.add(f"{cap(the)} was so glad that {he} gave {a} {reward}.", f"\"You are honest,\" said {the}, and gave {a} {reward}.")
    s.add(f"{a} ran home to tell {a.his} {s.pick('mother', 'father', 'grandmother')}.", f"{a} was happy to have helped.")
    s.end(a)
    s.ask(f"What did {a} find?", f"{a} found {thing}.")
    s.ask(f"What did {the} give {a}?", f"{cap(the)} gave {a} {reward}.")


def bridge(s):
    a, b = s.animal(), s.animal()
    s.add(f"{a} the {a.what} and {b} the {b.what} met on a small bridge.", f"There was a small bridge over the river. {a} the {a.what} came from one side, and {b} the {b.what} came from the other side.")
    s.add("The bridge was so small that only one could cross.", "There was no room for two.")
    s.add(say(s, a, "Let me go first!"), say(s, a, "I was here first!"))
    s.add(say(s, b, "No, I want to go first!"), say(s, b, "No, I was here before you!"))
    if s.chance(0.5):
        s.add("They pushed and pushed, and both fell into the water.", f"{a} pushed {b}, and {b} pushed {a}. Splash! They both fell into the river.")
        s.add("Now they were wet and cold.", f"They climbed out of the water and looked at each other.")
        s.add(say(s, a, "That was silly. I am sorry."), f"Then {a} began to laugh, and {b} laughed too.")
        s.add(say(s, b, "Next time, you may go first."), say(s, b, "Next time, one of us will wait."))
        s.ask("Why did they fall into the water?", "They fell because they pushed each other.")
    else:
        s.add(f"Then {b} stopped and thought.", f"{b} saw that {a} carried a heavy {s.pick('bag', 'basket', 'box')}.")
        s.add(say(s, b, "You may go first. I will wait."), f"{b} stepped back and let {a} cross.")
        s.add(f"{a} crossed the bridge, and then {b} crossed it.", f"So {a} went first, and {b} went after.")
        thank(s, a, b)
        s.ask("Who crossed the bridge first?", f"{a} crossed the bridge first.")
    s.end(a, b)


def clean_room(s):
    a = s.child()
    kin = s.kin(a, True)
    full, noun = s.thing()
    spot = s.pick(INDOORS)
    s.meet(a)
    s.add(f"{a}'s room was a mess.", f"There were {s.pick('clothes', 'toys', 'books', 'papers')} everywhere in {a}'s room.")
    s.add(say(s, kin, "Please clean your room."), f"{cap(str(kin))} asked {a} to clean the room.")
    s.add(say(s, a, "I do not want to. It is boring."), f"But {a} did not want to do it.")
    s.add(f"{a} could not find {a.his} {full}.", f"Then {a} wanted to play with {a.his} {full}, but it was gone.")
    s.add(say(s, kin, f"Maybe you will find the {noun} if you clean up."), f"\"It must be under all these things,\" said {kin}.")
    s.add(f"So {a} put the books on the shelf and the clothes in the cupboard.", f"{a} picked up one thing after the other.")
    s.add(f"And there, {spot}, was the {noun}!", f"Then {a} looked {spot} and found the {noun}.")
    s.add(say(s, a, f"Here is my {noun}!", "cried"), f"{a} was very glad.")
    s.add("Now the room was clean and nice.", f"{cap(str(kin))} looked at the clean room and smiled.")
    s.add(f"After that, {a} cleaned {a.his} room every {s.pick('day', 'week', 'Sunday')}.", f"Then {a} played with the {full} on the clean floor.")
    s.ask(f"Where was the {noun}?", f"The {noun} was {spot}.")


def wish(s):
    a = s.hero()
    full, noun = s.thing()
    friend = s.hero()
    what = s.pick("a friend", f"{an(full)}", "snow", "a big cake", "a pet")
    s.meet(a)
    s.add(f"One night, {a} saw a bright star.", f"One evening, a star fell from the sky, and {a} saw it.")
    s.add(f"\"I wish for {what},\" {a} whispered.", f"{a} closed {a.his} eyes and wished for {what}.")
    s.add(f"Then {a} went to sleep.", f"{a} dreamed about it all night.")
    s.add("In the morning, there was a knock at the door.", "The next morning, the sun shone through the window.")
    if what == "a friend":
        s.add(f"It was {an(friend.what)}. \"I am {friend}. Do you want to play?\"", f"A new neighbour was there. Her name was {friend}." if friend.female and not friend.animal else f"There stood {an(friend.what)} named {friend}.")
    elif what == "snow":
        s.add("Everything outside was white with snow.", "Snow was falling on the house.")
    elif what == "a pet":
        s.add(f"There was a little {s.pick('kitten', 'puppy', 'rabbit')} in a basket.")
    else:
        s.add(f"There was {what} in front of the door!", f"On the table stood {what}.")
    s.add(say(s, a, "My wish came true!", "cried"), f"{a} could not believe it.")
    s.add(f"That night, {a} looked up and said, \"Thank you, little star.\"", "And far away, the star was shining.", f"{a} thanked the star.")
    s.end(a)
    s.ask(f"What did {a} wish for?", f"{a} wished for {what}.")


def help_elder(s):
    a = s.hero()
    who, he = s.pick(("woman", "she"), ("man", "he"), ("farmer", "he"), ("lady", "she"))
    load = s.pick("basket", "bag", "box", "sack")
    goods = s.pick("apples", "potatoes", "books", "bread", "wood", "eggs")
    at, to, place = s.pick(PLACES)
    s.meet(a)
    s.add(f"{s.time()}, {a} saw an old {who} with a heavy {load}.", f"{s.time()}, on the way {to}, {a} met an old {who} with a big {load}.")
    s.add(f"The {load} was full of {goods}.", f"There were {goods} in the {load}.")
    s.add(f"The old {who} was {s.pick('tired', 'slow', 'out of breath')}.", f"\"This {load} is so heavy,\" said the old {who}.")
    s.add(say(s, a, f"May I carry the {load}?", "asked"), say(s, a, "Let me help you."))
    s.add(f"\"That is very kind of you,\" said the old {who}.", f"The old {who} smiled and said yes.")
    s.add(f"{a} carried the {load} up the hill.", f"{a} took the {load} and carried it to the house.")
    s.maybe(f"On the way, the old {who} told {a} a funny story.", f"They talked about {s.pick('the weather', 'old times', 'birds', 'the sea')}.")
    s.add(f"At the house, {he} gave {a} some {goods}." if goods != "wood" else f"At the house, {he} gave {a} a cup of tea.", f"\"Thank you! You are a good {a.what},\" said the old {who}.")
    s.add(f"{a} went home and felt {s.pick('strong', 'happy', 'proud')}.", f"Every week, {a} came back to help.", f"After that, they were friends.")
    s.ask(f"What was in the {load}?", f"There were {goods} in the {load}." if goods not in ("bread", "wood") else f"There was {goods} in the {load}.")


def take_turns(s):
    a, b = s.hero(), s.hero()
    thing = s.pick("swing", "slide", "bike", "sled", "pony", "little boat", "trampoline")
    at, to, _ = s.pick(PLACES)
    s.add(f"There was only one {thing} {at}.", f"{a} and {b} went {to}. There was a {thing} there, but only one.")
    s.add(f"{a} wanted the {thing}, and {b} wanted it too.", f"Both {a} and {b} wanted to use it.")
    s.add(say(s, a, "It is mine!", "cried"), say(s, a, "I want it now!", "cried"))
    s.add(say(s, b, "No, it is my turn!", "cried"), f"{b} began to cry.")
    s.add(f"An old {s.fresh(ANIMALS)} heard them.", f"{a}'s {s.pick('mother', 'father', 'teacher')} heard them.")
    s.add("\"Why do you not take turns?\" was the question.", "\"You can take turns,\" said a calm voice.")
    s.add(f"{a} looked at {b}. \"You can go first,\" {a} said.", f"So {b} went first, and {a} counted to twenty.")
    s.add(f"Then it was {a}'s turn.", f"After that, {a} had a turn.")
    s.add("It was much more fun together.", f"{a} pushed {b}, and {b} pushed {a}." if thing == "swing" else "They laughed and had fun.")
    s.end(a, b)
    s.ask("Who went first?", f"{b} went first.")
    s.ask("What did they both want?", f"They both wanted the {thing}.")


def egg(s):
    a = s.hero()
    colour = s.fresh(COLOURS)
    baby = s.pick("bird", "duckling", "turtle", "chick", "dragon", "swan")
    at, to, _ = s.pick(WILD)
    s.meet(a)
    s.add(f"{s.time()}, {a} found {an(colour)} egg {at}.", f"{s.time()}, {a} went {to} and found {an(colour)} egg in the grass.")
    s.add(f"There was no nest and no mother.", f"The egg was cold and alone.")
    s.add(say(s, a, "I will keep you warm, little egg."), say(s, a, "What is inside?", "asked"))
    s.add(f"{a} put the {colour} egg in a box with {s.pick('soft wool', 'dry grass', 'a blanket', 'feathers')}.", f"{a} took it home and put it near the fire.")
    s.add(f"{a} waited for {s.pick('three days', 'five days', 'a week', 'two weeks')}.", f"Every night, {a} looked at the egg.")
    s.add("Then the egg began to move.", "One morning, there was a crack in the egg.")
    s.add(f"Crack! Out came a little {baby}.", f"The egg opened, and a tiny {baby} looked out.")
    s.add(f"\"Are you my mother?\" asked the {baby}.", f"The {baby} looked at {a} and made a small sound.")
    s.add(f"{a} laughed. \"No, but I am your friend.\"", f"{a} gave the {baby} food and water.")
    s.add(f"The {baby} grew big and strong, and it came to visit {a} every day.", f"When the {baby} was big, it {'swam' if baby in ('turtle', 'duckling', 'swan') else 'flew'} away, but it always came back to {a}." if baby != "chick" else f"The {baby} became a fine hen and lived with {a}.")
    s.end(a)
    s.ask("What came out of the egg?", f"A little {baby} came out of the egg.")
    s.ask("What colour was the egg?", f"The egg was {colour}.")


def painting(s):
    a = s.hero()
    kin = s.kin(a)
    subject = s.pick("a house", "a tree", "a horse", "the sea", "the sun", "a boat", "a cat", "a flower")
    want, x, y = s.pick(("green", "blue", "yellow"), ("orange", "red", "yellow"), ("purple", "red", "blue"), ("pink", "red", "white"), ("grey", "black", "white"))
    s.meet(a, ", who loved to paint" if s.chance(0.6) else "")
    s.add(f"{s.time()}, {a} wanted to paint {subject} for {kin}.", f"{s.time()}, {a} sat down to paint {subject}. It was for {kin}.")
    s.add(f"But {a} had no {want} paint.", f"\"I need {want}, but there is no {want} paint,\" said {a}.")
    s.add(f"There was only {x} and {y}.", f"{a} had {x} paint and {y} paint.")
    s.add(f"{a} was {s.pick(SAD)}. Then {a.he} had an idea.", f"{a} thought for a while.")
    s.add(f"{a} mixed {x} and {y}, and it became {want}!", f"{a} put {x} and {y} together. Now there was {want}!")
    s.add(f"With the {want} paint, {a} painted {subject}.", f"So {a} painted {subject} in {want}.")
    s.add(f"{a} gave the picture to {kin}.", f"When the picture was done, {a} showed it to {kin}.")
    s.add(say(s, kin, "What a beautiful picture!"), say(s, kin, f"I love it. Thank you, {a}!"))
    s.add(f"{cap(str(kin))} put it on the wall.", f"Now the picture hangs in the kitchen.")
    s.end(a)
    s.ask(f"What did {a} paint?", f"{a} painted {subject}.")
    s.ask(f"How do you make {want}?", f"You mix {x} and {y}.")


def music(s):
    a = s.hero()
    tool = s.pick("flute", "drum", "violin", "piano", "guitar", "trumpet")
    listener = s.fresh(ANIMALS)
    s.meet(a)
    s.add(f"{a} wanted to play the {tool}.", f"{a}'s dream was to play the {tool}.")
    s.add("At first, it sounded terrible.", f"But the first day, it sounded bad, and a {s.pick('dog', 'cat') if listener not in ('dog', 'cat') else 'cow'} ran away.")
    s.add("\"Stop that noise!\" said the neighbours.", f"Everyone laughed at {a}.")
    s.add(f"{a} was {s.pick(SAD)}, but {a.he} did not give up.", f"But {a} did not stop.")
    s.add(f"{a} played the {tool} every day, for {s.pick('a week', 'a month', 'a year')}.", f"{a} practised in the {s.pick('barn', 'forest', 'garden')} every day.")
    s.add(f"An old {listener} listened and said, \"You get better every day.\"", f"Only {an(listener)} came to listen.")
    s.add(f"Then came the day of the big {s.pick('party', 'show', 'feast')}.", f"One evening, the whole village came together.")
    s.add(f"{a} played a song on the {tool}.", f"{a} took the {tool} and began to play.")
    s.add("It was the most beautiful song of all.", "Everyone was quiet and listened.")
    s.add(f"People clapped and clapped, and the {listener} was proud.", f"\"Bravo, {a}!\" they cried.")
    s.end(a)
    s.ask(f"What did {a} play?", f"{a} played the {tool}.")


def turnip(s):
    plant = s.pick("turnip", "carrot", "pumpkin", "radish", "potato")
    first = s.pick(("farmer", "he"), ("old man", "he"), ("old woman", "she"))
    team = [s.fresh(ANIMALS) for _ in range(s.pick(2, 3))]
    last = "mouse" if "mouse" not in team else "ant"
    s.add(f"Once upon a time, an old {'farmer' if first[0] == 'farmer' else first[0][4:]} planted a {plant}.")
    who = "farmer" if first[0] == "farmer" else first[0]
    s.add(f"The {plant} grew very, very big.", f"It grew and grew until it was as big as a {s.pick('house', 'cow', 'table')}.")
    s.add(f"The {who} pulled and pulled, but the {plant} did not come out.", f"The {who} wanted to pull it out, but it was too heavy.")
    chain = who
    for animal in team:
        s.add(f"The {who} called the {animal}. They pulled together, but it did not come out.", f"Then the {animal} came to help. They pulled and pulled, but the {plant} did not move.")
    s.add(f"At last, a little {last} came. \"Can I help?\" asked the {last}.", f"Then a tiny {last} came along. \"Let me help too!\" said the {last}.")
    s.add(f"The {team[0]} laughed. \"You are too small!\"", f"\"You are so small,\" said the {team[-1]}, \"but you can try.\"")
    s.add(f"They all pulled together: the {who}, the {', the '.join(team)} and the {last}.")
    s.add(f"And out came the {plant}!", f"Pop! The {plant} came out.")
    s.add(f"They made {s.pick('soup', 'a big pie')} from the {plant}, and everyone had some.", f"They ate the {plant} for a whole week.")
    s.add(f"Even a little {last} can be a big help.", f"\"Thank you, little {last},\" said the {who}.")
    s.ask(f"Who came last?", f"The {last} came last.")
    s.ask("What did they pull?", f"They pulled a {plant}.")


def day(s):
    a = s.child()
    pet = s.pick("cat", "dog", "rabbit", "pony")
    food1, food2 = s.fresh(FOODS), s.fresh(FOODS)
    at, to, _ = s.pick(PLACES)
    s.add(f"This is {a}'s day.", f"{a} is a {s.pick('happy', 'busy', 'good')} {a.what}.", f"Let me tell you about {a}'s day.")
    s.add(f"In the morning, {a} gets up early and eats {food1}.", f"Every morning, {a} wakes up at {s.pick('six', 'seven')} and has {food1} for breakfast.")
    s.add(f"Then {a.he} feeds the {pet}.", f"After breakfast, {a.he} gives food to the {pet}.")
    s.add(f"At {s.pick('eight', 'nine')}, {a} goes to school.", f"Then {a} goes to school and learns to {s.pick('read', 'write', 'count')}.")
    s.add(f"At noon, {a} eats lunch with {a.his} friends.", f"At twelve, it is time for lunch.")
    s.add(f"In the afternoon, {a} goes {to} and plays {s.pick(GAMES)}.", f"After school, {a} plays {at}.")
    s.add(f"In the evening, {a} has {food2} with {a.his} family.", f"For dinner, there is {food2}.")
    s.add(f"At night, {a} reads a book and goes to bed.", f"Then {a} brushes {a.his} teeth and says good night to the {pet}.")
    s.add(f"{a} is tired and happy.", "Good night!", f"Sleep well, {a}!")
    s.ask(f"What does {a} eat in the morning?", f"{a} eats {food1} in the morning.")
    s.ask(f"What does {a} eat in the evening?", f"{a} eats {food2} in the evening.")


def build(s):
    a, b = s.hero(), s.hero()
    what = s.pick("a tree house", "a raft", "a sand castle", "a little hut", "a boat", "a bird house", "a dam")
    tools = s.fresh(["a hammer", "a rope", "a saw", "a bucket", "a shovel"])
    need = s.pick("wood", "stones", "leaves", "sand", "branches")
    at, to, _ = s.pick(WILD)
    s.add(f"{a} and {b} wanted to build {what} {at}.", f"{s.time()}, {a} said to {b}, \"Let us build {what} {at}!\"")
    s.add(f"{a} brought {tools}, and {b} brought {need}.", f"{b} looked for {need}, and {a} got {tools}.")
    s.add("They worked all morning.", f"It was hard work, but they did not stop.")
    noun = what.split(" ", 1)[1]
    s.add(f"But then the {noun} fell down.", f"But a strong wind came, and the {noun} broke.")
    s.add(say(s, a, "It is no use. Let us stop."), f"{a} was {s.pick(SAD)}. \"All our work is gone,\" {a.he} said.")
    s.add(say(s, b, "We can try again. Now we know how to do it."), say(s, b, "Do not give up! We need more " + need + "."))
    s.add(f"So they got more {need} and began again.", f"They made it stronger this time.")
    s.add(f"In the evening, the {noun} was ready.", f"At last, they had {what}.")
    s.add(f"They sat {'in' if noun in ('tree house', 'little hut', 'boat') else 'next to'} the {noun} and ate {plural(s.pick(SNACKS))}.", f"\"We did it!\" said {b}.")
    s.end(a, b)
    s.ask("What did they build?", f"They built {what}.")
    s.ask(f"What did {a} bring?", f"{a} brought {tools}.")


def afraid_to(s):
    a, b = s.animal(), s.animal()
    act, past = s.pick(("swim", "swam"), ("climb", "climbed"), ("jump", "jumped"), ("sing", "sang"), ("dance", "danced"), ("skate", "skated"))
    s.meet(a)
    s.add(f"All the other animals could {act}, but {a} was afraid.", f"{a} was afraid to {act}.")
    s.add(say(s, a, f"I cannot {act}. I am too {s.pick('small', 'weak', 'slow')}."), f"{a} always stayed at home.")
    s.add(f"{s.time()}, {a.his} friend {b} the {b.what} came to visit.", f"{s.time()}, {a} met {b} the {b.what}.")
    s.add(say(s, b, f"I can teach you to {act}."), say(s, b, "Everyone is afraid at first. Try one small step."))
    s.add(f"First {b} {past}, and {a} watched.", f"{b} showed {a} how to do it.")
    s.add(f"Then {a} tried, but it did not go well.", f"The first time, {a} fell.")
    s.add(say(s, b, "That was good! Try again."), f"{b} did not laugh. {b.He} helped {a} up.")
    s.add(f"{a} tried again and again, and at last {a.he} {past}!", f"The third time, {a} {past} all alone.")
    s.add(say(s, a, f"Look, I can {act}!", "cried"), f"{a} was not afraid any more.")
    thank(s, a, b)
    s.end(a, b)
    s.ask(f"What did {a} learn?", f"{a} learned to {act}.")
    s.ask(f"Who helped {a}?", f"{b} helped {a}.")


def sea_trip(s):
    a = s.hero()
    b = s.hero()
    colour = s.fresh(COLOURS)
    land = s.pick("an island", "a big rock", "a sandy beach", "a far land")
    found = s.pick("sweet fruit", "shells", "a friendly turtle", "a green parrot", "tall trees", "a fresh spring")
    s.meet(a, f" who had {an(colour)} boat")
    s.add(f"{s.time()}, {a} asked {b} to sail with {a.him}.", f"{s.time()}, {a} and {introduce(s, a, b)} got into the {colour} boat.")
    s.add(f"The {colour} boat sailed over the blue sea.", "The wind was good, and they sailed far away.")
    s.add("Then a storm came, and the waves were high.", "But a big wave hit the boat.")
    s.add(say(s, b, "I am afraid!", "cried"), say(s, b, "Water is coming in!", "cried"))
    s.add(say(s, a, "Hold on to me!", "called"), f"{a} gave {b} a bucket. \"Take out the water!\"")
    s.add(f"After the storm, they came to {land}.", f"When it was calm again, they saw {land}.")
    s.add(f"There they found {found}.", f"On it there {'were' if found in ('shells', 'tall trees') else 'was'} {found}.")
    s.add("They stayed for one night and slept under the stars.", f"{b} made a fire, and they told stories.")
    s.add(f"The next day, they sailed home in the {colour} boat.", "In the morning, the sea was quiet, and they sailed home.")
    s.add(f"{a.His} {s.pick('mother', 'father', 'grandfather')} was waiting at the harbour.", f"At home, {b} told everyone about the trip.")
    s.ask("What colour was the boat?", f"The boat was {colour}.")
    s.ask("What did they find?", f"They found {found}.")


def guest(s):
    a, b = s.animal(), s.animal()
    f1 = s.fresh(FOODS)
    s.meet(a)
    s.add(f"One cold night, somebody knocked at {a}'s door.", f"One stormy night, there was a knock at the door.")
    s.add(say(s, a, "Who is there?", "asked"), f"{a} opened the door.")
    s.add(f"It was {b} the {b.what}. {b.He} was wet and cold.", f"There stood {an(b.what)} named {b}, who was tired and cold.")
    s.add(say(s, b, "May I come in? I have no house."), say(s, b, "Please let me in. It is so cold outside."))
    s.add(say(s, a, "Come in! There is room for two."), say(s, a, "My house is small, but you are welcome."))
    s.add(f"{a} made {f1} for {b}, and they sat by the fire.", f"{b} got a warm blanket and some {f1}.")
    s.add(f"In the morning, {b} helped {a} to {s.pick('clean the house', 'mend the roof', 'cut the wood', 'sweep the floor')}.", f"The next day, {b} wanted to go, but {a} said, \"Please stay!\"")
    s.add(f"So {b} stayed with {a} for the whole winter.", f"From then on, they lived together.")
    s.end(a, b)
    s.ask(f"Who knocked at the door?", f"{b} the {b.what} knocked at the door.")
    s.ask(f"What did {b} eat?", f"{b} ate {f1}.")


# ---- short paragraphs of facts, questions and answers ----

FACTS = [("What colour is grass?", "Grass is green."), ("What colour is the sky?", "The sky is blue."), ("What colour is snow?", "Snow is white."),
         ("What colour is a banana?", "A banana is yellow."), ("What colour is a tomato?", "A tomato is red."), ("What colour is coal?", "Coal is black."),
         ("What do cows give?", "Cows give milk."), ("What do bees make?", "Bees make honey."), ("What do hens lay?", "Hens lay eggs."),
         ("Where do fish live?", "Fish live in water."), ("Where do birds sleep?", "Birds sleep in nests."), ("Where does the sun rise?", "The sun rises in the east."),
         ("How many legs does a dog have?", "A dog has four legs."), ("How many legs does a bird have?", "A bird has two legs."), ("How many legs does a spider have?", "A spider has eight legs."),
         ("How many days are in a week?", "There are seven days in a week."), ("How many months are in a year?", "There are twelve months in a year."),
         ("When do we sleep?", "We sleep at night."), ("When does it snow?", "It snows in winter."), ("When do leaves fall?", "Leaves fall in autumn."),
         ("What do we do with our eyes?", "We see with our eyes."), ("What do we do with our ears?", "We hear with our ears."), ("What do we need when it rains?", "We need an umbrella when it rains."),
         ("What is the opposite of big?", "The opposite of big is small."), ("What is the opposite of hot?", "The opposite of hot is cold."), ("What is the opposite of day?", "The opposite of day is night."),
         ("What is the opposite of happy?", "The opposite of happy is sad."), ("What do rabbits like to eat?", "Rabbits like to eat carrots."), ("What do cats like to drink?", "Cats like to drink milk."),
         ("What comes after Monday?", "Tuesday comes after Monday."), ("What comes after Friday?", "Saturday comes after Friday."), ("What comes after summer?", "Autumn comes after summer."),
         ("Why do we wear a coat in winter?", "We wear a coat in winter because it is cold."), ("What is ice made of?", "Ice is made of water."), ("What does the moon do?", "The moon shines at night.")]


def facts(s):
    for _ in range(s.pick(2, 3, 4)):
        question, answer = s.fresh(FACTS)
        s.add(f"{question} {answer}")
    if s.chance(0.4):
        animal = s.pick(list(SOUNDS))
        s.add(f"What does {an(animal)} say? {cap(an(animal))} says {SOUNDS[animal]}.")


def who_has(s):
    people = [s.hero() for _ in range(s.pick(2, 3))]
    things = [s.thing() for _ in people]
    for person, (full, _) in zip(people, things):
        s.add(f"{person} has {an(full)}.")
    if s.chance(0.4):
        i, j = s.rng.sample(range(len(people)), 2)
        s.add(f"Then {people[i]} gives the {things[i][1]} to {people[j]}.")
        s.add(f"Who has the {things[i][1]} now? {people[j]} has the {things[i][1]}.")
        return
    i = s.rng.randrange(len(people))
    s.add(f"Who has the {things[i][1]}? {people[i]} has the {things[i][1]}.", f"What does {people[i]} have? {people[i]} has {an(things[i][0])}.",
          f"What colour is {people[i]}'s {things[i][1]}? It is {things[i][0].split()[0]}.")


def where_is(s):
    people = [s.hero() for _ in range(s.pick(2, 3))]
    places = [s.fresh(PLACES) for _ in people]
    for person, (at, _, _) in zip(people, places):
        s.add(f"{person} is {at}.")
    i = s.rng.randrange(len(people))
    if s.chance(0.4):
        at, to, _ = s.fresh(PLACES)
        s.add(f"Then {people[i]} goes {to}.")
        s.add(f"Where is {people[i]} now? {people[i]} is {at}.")
    else:
        s.add(f"Where is {people[i]}? {people[i]} is {places[i][0]}.", f"Who is {places[i][0]}? {people[i]} is {places[i][0]}.")


def count(s):
    a = s.child()
    fruit = s.pick(FRUITS)
    n = s.rng.randint(2, 8)
    def some(k):
        return f"{NUMBERS[k] if k else 'no'} {fruit if k == 1 else plural(fruit)}"
    s.add(f"{a} has {some(n)}.")
    if s.chance(0.5):
        k = s.rng.randint(1, min(3, n))
        s.add(f"{a.He} eats {NUMBERS[k]}.", f"{a.He} gives away {NUMBERS[k]}.")
        n -= k
    else:
        k = s.rng.randint(1, 3)
        s.add(f"{a.He} gets {NUMBERS[k]} more.", f"{a.He} finds {NUMBERS[k]} more.")
        n += k
    s.add(f"How many {plural(fruit)} does {a} have now? {a} has {some(n)}.")


PLOTS = [lost_thing, share_food, rain, stuck_animal, new_friend, baking, garden, broken_toy, night_noise, treasure, birthday, race,
         lost_way, wind_takes, market, trade, sick_friend, snow, truth, bedtime, first_day, stray_pet, fishing, hide_and_seek,
         picnic, found_thing, bridge, clean_room, wish, help_elder, take_turns, egg, painting, music, turnip, day, build,
         afraid_to, sea_trip, guest]
SHORT = [facts, who_has, where_is, count]


def write_one(rng):
    """One text: nine in ten are stories."""
    story = Story(rng)
    plot = PLOTS if rng.random() < 0.9 else SHORT
    plot[int(rng.random() * len(plot))](story)
    return story.text()


def write_stories(seed, count):
    """`count` texts; the same seed gives the same texts."""
    rng = random.Random(seed)
    return [write_one(rng) for _ in range(count)]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    for text in write_stories(args.seed, args.count):
        print(text + "\n")


if __name__ == "__main__":
    main()
