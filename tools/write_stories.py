#!/usr/bin/env python3
"""Writes small English stories from the words (story_words.py) and plots (story_plots_*.py) beside it; no other text goes in.

    python3 tools/write_stories.py --count=5 --seed=1        # five texts, one per paragraph block

Every text is put together from a state (who is there, who owns what, where things are), so that names, pronouns,
colours, places and owners stay consistent within it. tools/train_stories.py trains the bundled model on these texts.
"""

import argparse
import random

from story_plots_outside import (
    lost_thing, rain, stuck_animal, night_noise, treasure, race, lost_way, wind_takes, snow, stray_pet,
    fishing, hide_and_seek, found_thing, bridge, wish, egg, turnip, afraid_to, sea_trip)
from story_plots_together import (
    share_food, new_friend, baking, garden, broken_toy, birthday, market, trade, sick_friend, truth,
    bedtime, first_day, picnic, clean_room, help_elder, take_turns, painting, music, day, build, guest)
from story_questions import facts, who_has, where_is, count
from story_state import Story

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
