"""The templates of all questions, written out, one a line.

``[a|b]`` draws one of the words, ``{x}`` is filled in: {o} an object ("red circle"), {s} a shape,
{c} a colour, {a} an object with its article, {p} a plural ("red things"). Templates that start
with ``*`` are held out: they are never trained and only measured. A third of every kind is.
"""

from __future__ import annotations

COLOR_OF_SHAPE = """
What [colour|color] is the {s}?
What is the [colour|color] of the {s}?
Which [colour|color] does the {s} have?
Tell me the [colour|color] of the {s}.
Name the [colour|color] of the {s}.
What [colour|color] is the {s} right now?
The {s}: what [colour|color] is it?
What [colour|color] does the {s} have now?
Can you tell me what [colour|color] the {s} is?
I want to know the [colour|color] of the {s}.
Give me the [colour|color] of the {s}.
What is the {s}'s [colour|color]?
* Which [colour|color] is the {s}?
* Say what [colour|color] the {s} is.
* Do you know the [colour|color] of the {s}?
* Of what [colour|color] is the {s}?
* What [colour|color] is that {s}?
* Describe the [colour|color] of the {s}.
"""

SHAPE_OF_COLOR = """
What shape is the {c} [object|thing|item]?
What is the shape of the {c} [object|thing|item]?
Which shape does the {c} [object|thing|item] have?
Tell me the shape of the {c} [object|thing|item].
What is the {c} [object|thing|item]?
Name the shape of the {c} [object|thing|item].
Which shape is {c}?
The {c} [object|thing|item]: what shape is it?
What kind of [object|thing|item] is {c}?
Can you tell me what shape the {c} [object|thing|item] is?
I want to know the shape of the {c} one.
Give me the shape of the {c} [object|thing|item].
* What shape is the {c} one?
* What [object|thing] is {c}?
* Which shape is the {c} [object|thing|item]?
* Say what shape the {c} [object|thing|item] is.
* Do you know the shape of the {c} [object|thing|item]?
* What shape does the {c} [object|thing|item] have?
"""

VISIBLE = """
What is visible now?
What do you see?
What can you see right now?
What is there right now?
Which [objects|things|items] are visible?
List the [objects|things|items] you see.
List all visible [objects|things|items].
What [objects|things|items] are there now?
Tell me what you see.
Name the [objects|things|items] in view.
Which [objects|things|items] can you see now?
What is in view?
Can you tell me what is visible?
What does the camera see?
Show me what is there: list it.
What is in front of you?
Name everything you can see.
Please list what is in front of the camera.
* What do you see now?
* What [objects|things] can the camera see?
* Tell me what is in front of you.
* Which [objects|things] are in view right now?
* What [objects|things|items] do you see?
* Tell me which [objects|things|items] are visible.
* What is visible to you?
* Name all the [objects|things] you see right now.
* What is in front of the camera?
"""

COUNT = """
How many [objects|things|items] are there?
How many [objects|things|items] are visible?
How many [objects|things|items] do you see?
Count the [objects|things|items].
What is the number of [objects|things|items]?
How many [objects|things|items] are visible right now?
Tell me how many [objects|things|items] there are.
How many [objects|things|items] are in view?
Give me the number of visible [objects|things|items].
Can you count the [objects|things|items] for me?
How many [objects|things|items] can you see?
I want to know how many [objects|things|items] there are.
* How many [objects|things|items] can you count?
* Count the [objects|things|items] you see.
* Tell me the number of [objects|things|items] in view.
* How many [objects|things|items] are there right now?
* How many [objects|things|items] does the camera see?
* Count all visible [objects|things|items].
"""

COUNT_ATTR = """
How many {p} are there?
How many {p} are visible?
How many {p} do you see?
Count the {p}.
What is the number of {p}?
How many {p} are visible right now?
Tell me how many {p} there are.
How many {p} are in view?
Give me the number of {p}.
Can you count the {p} for me?
I want to know how many {p} there are.
How many {p} can you see?
* How many {p} can you count?
* Count the {p} you see.
* Tell me the number of {p} in view.
* How many {p} are there right now?
* How many {p} does the camera see?
* Count all visible {p}.
"""

EXISTS = """
Is there {a}?
Is there {a} now?
Can you see {a}?
Do you see {a}?
Is {a} visible?
Is {a} in view right now?
Are there any {p}?
Do you see any {p}?
Can you see any {p} now?
Tell me if there is {a}.
Is {a} there?
Are any {p} visible?
Does the camera see {a}?
I want to know if there is {a}.
Tell me if you see any {p}.
* Is there {a} right now?
* Are there any {p} now?
* Are there any {p} in view?
* Is there any {o}?
* Can the camera see {a}?
* Tell me if {a} is visible.
* Do you see {a} now?
* Are any {p} there?
"""

FIRST = """
What appeared first?
Which [object|thing|item] appeared first?
What was the first [object|thing|item]?
What was the first [object|thing|item] to appear?
Which [object|thing|item] was first?
What did you see first?
Name the first [object|thing|item].
Tell me which [object|thing|item] appeared first.
What came first?
Which [object|thing|item] came into view first?
What was there first?
Can you tell me what appeared first?
* Which [object|thing|item] did you see first?
* What was the first [object|thing|item] you saw?
* Tell me what came first.
* Which [object|thing|item] came first?
* Name the [object|thing|item] that appeared first.
* What was first?
"""

LAST = """
What appeared last?
Which [object|thing|item] appeared last?
What was the last [object|thing|item] to appear?
What appeared most recently?
Which [object|thing|item] appeared most recently?
What is the newest [object|thing|item]?
Name the last [object|thing|item] that appeared.
Tell me which [object|thing|item] appeared last.
What came last?
Which [object|thing|item] came into view last?
Which [object|thing|item] is the newest?
Can you tell me what appeared last?
* Which [object|thing|item] came last?
* Tell me what came last.
* What came into view most recently?
* Name the [object|thing|item] that appeared last.
* What was the most recent [object|thing|item] to appear?
* Tell me the newest [object|thing|item].
"""

BEFORE = """
What was there before the {o}?
What appeared before the {o}?
What came before the {o}?
Which [object|thing|item] appeared before the {o}?
Which [object|thing|item] came right before the {o}?
What appeared right before the {o}?
What did you see before the {o}?
Name the [object|thing|item] before the {o}.
Tell me what appeared before the {o}.
Before the {o}, what appeared?
What was the [object|thing|item] before the {o}?
Which [object|thing|item] was there before the {o} appeared?
Can you tell me what came before the {o}?
* Which [object|thing|item] came before the {o}?
* What was there right before the {o}?
* Tell me what came before the {o}.
* Before the {o}, what did you see?
* Which [object|thing|item] was there before the {o}?
* Name the [object|thing|item] that appeared before the {o}.
* What did you see right before the {o}?
"""

AFTER = """
What was there after the {o}?
What appeared after the {o}?
What came after the {o}?
Which [object|thing|item] appeared after the {o}?
Which [object|thing|item] came right after the {o}?
What appeared right after the {o}?
What did you see after the {o}?
Name the [object|thing|item] after the {o}.
Tell me what appeared after the {o}.
After the {o}, what appeared?
What was the next [object|thing|item] after the {o}?
What appeared next, after the {o}?
Can you tell me what came after the {o}?
* Which [object|thing|item] came after the {o}?
* What came right after the {o}?
* Tell me what came after the {o}.
* After the {o}, what did you see?
* Which [object|thing|item] was next after the {o}?
* Name the [object|thing|item] that appeared after the {o}.
* What did you see right after the {o}?
"""

DIRECTION = """
Which way does the {o} move?
Which way is the {o} moving?
In which direction does the {o} move?
In what direction is the {o} moving?
Where is the {o} going?
Where does the {o} go?
Where is the {o} moving to?
Which way is the {o} going?
Tell me which way the {o} moves.
What is the direction of the {o}?
Is the {o} moving, and which way?
Name the direction of the {o}.
The {o}: which way does it move?
Can you tell me where the {o} is going?
Where is the {o} headed?
* In which direction is the {o} going?
* Which direction does the {o} move?
* What direction is the {o} moving in?
* Tell me where the {o} is going.
* Which way does the {o} go?
* Tell me the direction of the {o}.
* Which way is the {o} headed?
* In what direction does the {o} move?
"""

WHERE = """
Where is the {o}?
Where is the {o} now?
Where can I find the {o}?
In which part of the picture is the {o}?
Where do you see the {o}?
Tell me where the {o} is.
What is the position of the {o}?
Name the place of the {o}.
In which place is the {o}?
Locate the {o}.
The {o}: where is it?
Can you tell me where the {o} is?
I want to know where the {o} is.
Give me the position of the {o}.
* Where is the {o} right now?
* Tell me the position of the {o}.
* Where in the picture is the {o}?
* What is the place of the {o}?
* Find the {o}: where is it?
* Do you know where the {o} is?
* Where do you see the {o} now?
"""

WHEN = """
When did the {o} appear?
At what second did the {o} appear?
At which second did the {o} appear?
When did you first see the {o}?
When did the {o} come into view?
Tell me when the {o} appeared.
At what time did the {o} appear?
In which second did the {o} appear?
The {o}: when did it appear?
Can you tell me when the {o} appeared?
I want to know when the {o} appeared.
Give me the second at which the {o} appeared.
* At what second did you first see the {o}?
* At which second did the {o} come into view?
* Tell me the second at which the {o} appeared.
* When did you see the {o} first?
* At what time did the {o} come into view?
* Do you know when the {o} appeared?
"""

AGO = """
How long ago did the {o} appear?
How many seconds ago did the {o} appear?
How many seconds ago did you first see the {o}?
How long ago did the {o} come into view?
How long has the {o} been there?
For how many seconds has the {o} been there?
Tell me how long ago the {o} appeared.
Since how many seconds is the {o} there?
How long is it since the {o} appeared?
For how long has the {o} been visible?
Can you tell me how long ago the {o} appeared?
I want to know how long ago the {o} appeared.
* How many seconds ago did the {o} come into view?
* How long has the {o} been visible?
* Tell me how many seconds ago the {o} appeared.
* For how long has the {o} been there?
* How long ago did you first see the {o}?
* How many seconds is it since the {o} appeared?
"""

EVER = """
Has there been {a} so far?
Has {a} appeared so far?
Have you seen {a} so far?
Did you ever see {a}?
Was there ever {a}?
Have there been any {p} so far?
Did {a} ever appear?
Have you ever seen any {p}?
Has anything like {a} appeared so far?
Tell me if {a} has appeared so far.
Did you see {a} at any time?
Was {a} there at any time?
Have any {p} appeared so far?
Can you tell me if there has been {a}?
* Have you ever seen {a}?
* Has {a} ever appeared?
* Was there {a} at any time?
* Did you see any {p} so far?
* Tell me if you have seen {a} so far.
* Has there ever been {a}?
* Did any {p} ever appear?
"""

GONE = """
Which [object|thing|item] disappeared last?
What disappeared last?
What disappeared most recently?
Which [object|thing|item] went away last?
What was the last [object|thing|item] to disappear?
What left most recently?
Which [object|thing|item] left the view last?
Tell me what disappeared last.
Name the last [object|thing|item] that disappeared.
What went away most recently?
Can you tell me which [object|thing|item] disappeared last?
What is the last [object|thing|item] that went away?
* Which [object|thing|item] disappeared most recently?
* What went away last?
* Which [object|thing|item] left last?
* Tell me which [object|thing|item] disappeared last.
* What was the last [object|thing|item] that went away?
* Name the [object|thing|item] that disappeared last.
"""

STILL_THERE = """
Is the {o} still there?
Is the {o} still visible?
Can you still see the {o}?
Do you still see the {o}?
Is the {o} still in view?
Tell me if the {o} is still there.
Is the {o} there right now, or did it go?
Does the camera still see the {o}?
* Is the {o} there still?
* Tell me if you still see the {o}.
* Can the camera still see the {o}?
* Is the {o} still visible now?
"""

LEFT_VIEW = """
Is the {o} gone?
Has the {o} disappeared?
Did the {o} disappear?
Has the {o} gone away?
Did the {o} go away?
Has the {o} left?
Is the {o} gone now?
Tell me if the {o} has disappeared.
* Did the {o} leave?
* Tell me if the {o} is gone.
* Has the {o} disappeared now?
* Has the {o} left the view?
"""

COLOR_CHANGE = """
Did the {s} change [colour|color]?
Did the {s} change its [colour|color]?
Has the {s} changed [colour|color]?
Has the {s} changed its [colour|color] so far?
Tell me if the {s} changed its [colour|color].
Did the [colour|color] of the {s} change?
Has the [colour|color] of the {s} changed?
Was there a change in the [colour|color] of the {s}?
Is the {s} still the same [colour|color]?
Did the {s} get a new [colour|color]?
Can you tell me if the {s} changed [colour|color]?
I want to know if the {s} changed its [colour|color].
* Has the {s} changed its [colour|color]?
* Did the {s}'s [colour|color] change?
* Tell me if the [colour|color] of the {s} changed.
* Did the [colour|color] of the {s} change so far?
* Has the {s} got a new [colour|color]?
* Did the {s} ever change [colour|color]?
"""

DESCRIBE = """
Describe the scene.
Describe what you see.
Describe the picture.
Describe everything you see.
Give me a description of the scene.
What is happening?
What is happening in the scene?
Tell me what is happening.
Describe what is happening now.
Tell me everything about the scene.
Can you describe the scene?
Describe all [objects|things|items].
Please give a description of what you see.
What is going on?
* Describe the scene right now.
* Can you describe what you see?
* Describe what is in front of you.
* What is going on in the scene?
* Give me a description of what you see.
* Tell me what is going on.
* Describe the view.
"""

OFFTOPIC = """
What is your name?
Who are you?
Who made you?
How are you?
What is the capital of France?
What is the capital of Spain?
Who wrote this book?
How old are you?
What day is it today?
What is the weather like?
What is two plus two?
What is ten minus three?
Tell me a joke.
Sing a song.
Can you cook?
Where do you live?
What do you like to eat?
Who is the president?
How tall is the tower?
What is the meaning of life?
Write a poem about the sea.
Translate this into French.
Which language do you speak?
What is the price of bread?
Do you have a dog?
Is there a dog?
Is there a person in the room?
How many people are there?
What is the person doing?
Where is the cat?
What is the dog doing?
Is the door open?
What colour is the car?
What color is the house?
Where is my phone?
Which way is the train going?
When did the car appear?
How long ago did the man leave?
What sound do you hear?
What music is playing?
Who won the game?
What time is it in Paris?
Open the door.
Turn left and drive to the kitchen.
Pick up the cup.
What did I say yesterday?
Do you love me?
Is it raining?
How far away is the moon?
What is in the box?
Read the text on the wall.
What does the sign say?
How heavy is the table?
What happened last year?
* What is your favourite song?
* What is the capital of Italy?
* How old is the dog?
* Where is the dog?
* Is there a cat?
* How many cars are there?
* What colour is the cat?
* What is the weather like today?
* Tell me a story about the sea.
* Who wrote the poem?
* What is five plus two?
* Which way is the car going?
* When did the man leave?
* What do you like?
* Is the window open?
* Go to the kitchen.
* What does the book say?
* How far away is the tower?
* Do you have a name?
* What is the man doing?
* Write a song about bread.
* How much is the bread?
* Who are the people in the room?
* Where is Paris?
* Can you sing?
* What is the cat doing?
* When is the train leaving?
"""

FOLLOW_WHERE = """
Where is it?
And where is it?
Where is it now?
And where is it now?
Where do you see it?
Tell me where it is.
And where do you see it?
* Tell me where it is now.
* Where is it right now?
* Where can you see it?
* Where about is it now?
"""

FOLLOW_DIRECTION = """
Which way is it moving?
And which way does it move?
Where is it going?
In which direction does it move?
And where is it headed?
Which way does it go?
And where is it going?
And which way is it moving?
* In which direction is it moving?
* What direction is it moving in?
* Which way is it headed?
* Which way is it going now?
"""

TEMPLATES: dict[str, str] = {
    "color_of_shape": COLOR_OF_SHAPE,
    "shape_of_color": SHAPE_OF_COLOR,
    "visible": VISIBLE,
    "count": COUNT,
    "count_attr": COUNT_ATTR,
    "exists": EXISTS,
    "first": FIRST,
    "last": LAST,
    "before": BEFORE,
    "after": AFTER,
    "direction": DIRECTION,
    "where": WHERE,
    "when": WHEN,
    "ago": AGO,
    "ever": EVER,
    "gone": GONE,
    "still_there": STILL_THERE,
    "left_view": LEFT_VIEW,
    "color_change": COLOR_CHANGE,
    "describe": DESCRIBE,
    "offtopic": OFFTOPIC,
    "follow_where": FOLLOW_WHERE,
    "follow_direction": FOLLOW_DIRECTION,
}
