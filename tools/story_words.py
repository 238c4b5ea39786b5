"""The words that stories are made of."""

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
