"""Plots about things lost, found and dared, mostly out of doors."""

from story_state import an, cap, say, thank, introduce
from story_words import (
    PET_NAMES, ANIMALS, SMALL_ANIMALS, COLOURS, FOODS, GAMES, PLACES, WILD, SPOTS, LATER, SAD)


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
