"""Short paragraphs of questions and answers."""

from story_state import an, plural, cap, say
from story_words import FRUITS, PLACES, NUMBERS, SOUNDS

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
