"""Label texts of mini/label_match: what people may call an expression. Those to learn from and those that only measure are apart, in words and in wording."""

from __future__ import annotations

from dataclasses import dataclass

from affectkit.api import BASIC7


@dataclass(frozen=True)
class Wording:
    """How one class is called.

    Attributes:
        states: words that follow "she looks".
        names: words that follow "a face full of".
        phrases: texts of their own.
    """

    states: tuple[str, ...]
    names: tuple[str, ...]
    phrases: tuple[str, ...]


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(";"))


LEARNED = {
    "neutral": Wording(
        _split(
            "neutral; calm; expressionless; unemotional; relaxed; emotionless; at ease; serious but calm; even-tempered; indifferent; "
            "blank; tranquil; placid; sober; unconcerned; disinterested; poker-faced; unexcited; collected; quiet; normal; at rest; "
            "passive; vacant; unfazed; balanced; unbothered; apathetic; nonchalant; emotionally flat; attentive; steady; undisturbed; "
            "formal; patient; okay; fine; stoic; inexpressive"
        ),
        _split(
            "neutrality; no emotion; composure; indifference; no particular feeling; rest; normality; detachment; apathy; serenity; "
            "nothing; passivity; sobriety; restraint; nonchalance; impartiality; evenness; impassiveness; a lack of emotion"
        ),
        _split(
            "a neutral face; a face at rest; a blank face; nothing special in the face; the face shows no feeling; she looks straight "
            "ahead without any emotion; he keeps a straight face; lips closed and brows relaxed; a passport photo; he just looks at the "
            "camera; she does not let anything show; an ordinary look; a person listening quietly; a resting expression; a face without "
            "expression; nothing can be read in the face; a deadpan look; a person who shows no emotion at all; the usual face of "
            "somebody who waits; his expression is flat"
        ),
    ),
    "anger": Wording(
        _split(
            "angry; mad; irritated; annoyed; outraged; hostile; aggressive; cross; enraged; resentful; full of hate; fuming; ready to "
            "fight; incensed; wrathful; exasperated; aggravated; bitter; vengeful; offended; ticked off; pissed off; cranky; grumpy; "
            "violent; belligerent; provoked; up in arms; mad as hell; angered; displeased; cruel; vindictive; spiteful; menacing; "
            "antagonistic; hot under the collar; riled; quarrelsome; testy; infuriated; livid; raging"
        ),
        _split(
            "anger; irritation; annoyance; hostility; hatred; aggression; bad temper; resentment; ire; exasperation; hate; bitterness; "
            "frustration; a tantrum; animosity; displeasure; hostility and hate; an outburst; violence; vexation; outrage and hatred; "
            "fury; indignation"
        ),
        _split(
            "an angry face; he frowns and presses his lips together; brows pulled down and a hard stare; she is yelling; he shows his "
            "teeth in anger; he has lost his temper; a threatening look; she wants to hit something; a person who feels wronged and hits "
            "back; he scowls; he shouts with rage; a fierce stare; her jaw is tight with anger; a man ready to attack; it makes her blood "
            "boil; an aggressive expression; a person boiling over; the look of somebody who could explode; he snaps at her with a glare; "
            "she is seething because of what he did"
        ),
    ),
    "disgust": Wording(
        _split(
            "repulsed; revolted; sickened; nauseated; grossed out; full of aversion; queasy; put off; full of contempt; scornful; "
            "nauseous; offended by the smell; repulsed by dirt; gagging; turned off; abhorrent; loathing it; contemptuous; sneering; "
            "distasteful; disapproving; feeling yucky; feeling sick; bilious; retching; creeped out by slime; fed up with filth; "
            "resistant to eating it; displeased by the taste; abhorred; disliking it strongly; reviled; repugnant; offended by the "
            "stench; squeamish; revulsed; icky"
        ),
        _split(
            "disgust; aversion; nausea; loathing; distaste; contempt; queasiness; disdain; scorn; antipathy; sickness; vomit; ick; hatred "
            "of dirt; a bad taste; displeasure at a smell; disapproval; odium; filth; moral disgust; repulsiveness; a strong dislike; "
            "detestation"
        ),
        _split(
            "she smells something rotten; yuck; eww, how gross; he tastes something foul; that makes her sick; someone who finds it "
            "revolting; he sticks out his tongue at the awful taste; she turns away from something filthy; something here stinks; he "
            "cannot stand the sight of it; she looks down on it with contempt; it turns her stomach; a sneer with a wrinkled nose; he is "
            "about to vomit; a person who looks at rotten food; an expression of deep dislike; somebody who found a worm in the apple; "
            "that is so nasty; he holds his nose because of the stench; she recoils from the mouldy bread"
        ),
    ),
    "fear": Wording(
        _split(
            "afraid; scared; fearful; frightened; anxious; panicked; nervous; worried; in fear; alarmed; petrified; uneasy; in panic; "
            "threatened; frightful; fearful of harm; jittery; jumpy; on edge; dreading it; cowardly; in terror of it; aghast; shaky; "
            "trembling; stressed; insecure; distressed; helpless; vulnerable; freaked out; panicky; panic-stricken; paranoid; phobic; "
            "unnerved; hysterical; scared stiff; overwhelmed by fear; startled and afraid; cowering; horrified; apprehensive"
        ),
        _split(
            "fear; panic; fright; anxiety; dread; alarm; nervousness; horror; fearfulness; distress; a phobia; nightmare; hysteria; "
            "angst; tension; consternation; danger; paranoia; stress; cowardice; scare; foreboding; insecurity; terror; trepidation"
        ),
        _split(
            "a scared face; a frightened look; someone who sees a ghost; he is in danger and knows it; eyes wide with fear; he wants to "
            "run away; he trembles; she hides from someone; his brows are raised and drawn together; a person who feels threatened; she "
            "is shaking with fear; he watches a horror film; she backs away from the danger; a nervous and fearful look; his mouth is "
            "stretched in panic; oh no, it is coming to get me; somebody who hears steps behind him in the dark; a spooked person; he "
            "dreads what will happen"
        ),
    ),
    "happiness": Wording(
        _split(
            "happy; joyful; cheerful; glad; merry; amused; smiling; overjoyed; full of joy; laughing; very happy; in high spirits; "
            "gleeful; jovial; ecstatic; euphoric; blissful; radiant; joyous; upbeat; exuberant; playful; excited; hopeful; proud; "
            "satisfied; tickled; rejoicing; lighthearted; on cloud nine; exhilarated; optimistic; giggling; grinning; triumphant; "
            "carefree; blessed; overjoyed and laughing; entertained; delightful; jubilant; in love; buoyant; elated; jolly; thrilled"
        ),
        _split(
            "happiness; joy; cheer; pleasure; laughter; gladness; good cheer; glee; ecstasy; euphoria; merriment; jubilation; enjoyment; "
            "excitement; a smile; exhilaration; love; pride; gratitude; delightfulness; rapture; good humour; optimism; delight; bliss; "
            "elation"
        ),
        _split(
            "a smiling face; she smiles broadly; a big smile; a wide grin; someone having fun; a person who enjoys the moment; her eyes "
            "and her mouth smile; he is having a great time; she has won a prize; friends laughing together; what wonderful news; a warm "
            "smile; he grins from ear to ear; a cheerful expression; everything is going well for her; he loves it; a person celebrating; "
            "he chuckles; a person in the best of moods; she is over the moon"
        ),
    ),
    "sadness": Wording(
        _split(
            "sad; unhappy; down; sorrowful; depressed; tearful; melancholic; heartbroken; downcast; hurt; lonely; crying; sad and "
            "hopeless; disappointed; despairing; grieving; hopeless; discouraged; low; blue; broken; desolate; bereaved; forlorn; "
            "wistful; sullen; dismal; crushed; dispirited; regretful; wretched; disheartened; heavy-hearted; sobbing; downhearted; sorry; "
            "homesick; rejected; tearful and hurt; in mourning; distraught; let down; suffering; inconsolable; mournful; dejected"
        ),
        _split(
            "sadness; grief; unhappiness; gloom; loneliness; heartache; depression; mourning; hopelessness; anguish; pain; tears; "
            "remorse; the blues; heartbreak; sorrowfulness; pity; wistfulness; low mood; misery; dejection; woe"
        ),
        _split(
            "a sad face; a crying woman; the corners of the mouth point down; she feels blue; someone who is about to cry; he mourns; a "
            "person in grief; eyes full of tears; a broken heart; he is sobbing; a person who has given up hope; bad news have hit her "
            "hard; he misses her badly; a sad look; she weeps; his lip trembles and he cries; a miserable person; the look of a widow at "
            "a funeral; she sheds tears; a mournful gaze"
        ),
    ),
    "surprise": Wording(
        _split(
            "surprised; amazed; startled; taken aback; in awe; caught off guard; dumbfounded; wide-eyed; in disbelief; struck by wonder; "
            "very surprised; bewildered; flummoxed; staggered; jolted; blown away; awestruck; agape; open-mouthed; gobsmacked; in wonder; "
            "thrown; puzzled; confused; curious; impressed; shaken by surprise; unprepared; bowled over; confounded; nonplussed; at a "
            "loss for words; marvelling; dazed; floored; jaw-dropped; shocked and amazed; wonderstruck; overwhelmed by surprise; "
            "astounded; flabbergasted; thunderstruck"
        ),
        _split(
            "surprise; shock; wonder; disbelief; awe; sudden surprise; wonderment; a revelation; a jolt; an unexpected turn; curiosity; "
            "confusion; realization; marvel; a shock; a sudden twist; startle; puzzlement; suddenness; an amazing thing; astonishment; "
            "stupefaction"
        ),
        _split(
            "her jaw drops; eyes and mouth wide open; wow; oh my god, really; he did not expect that; a person who cannot believe it; an "
            "unexpected event; the brows shoot up; she gasps; a sudden surprise; he has just been told something incredible; what a "
            "surprise; a person at a surprise party; her mouth forms an o; that came out of nowhere; he looks stunned by the news; she is "
            "surprised to see him; unbelievable; somebody who sees a rabbit come out of a hat; she raises her brows and opens her mouth"
        ),
    ),
}
"""What is learned from, by class."""

HELD = {
    "neutral": Wording(
        _split("composed; plain and calm; ordinary; detached; matter-of-fact; straight-faced; unimpressed; cool; impassive; dispassionate"),
        _split("a poker face; quiet attention; stillness; flat affect; equanimity"),
        _split(
            "a person with a calm look; an unmoved expression; the muscles of the face are relaxed; neither happy nor sad; he feels "
            "nothing in particular"
        ),
    ),
    "anger": Wording(
        _split(
            "irate; in a bad temper; frustrated and angry; hateful; indignant; hot-headed; bad-tempered; worked up; grouchy; seeing red; "
            "furious"
        ),
        _split("outrage; wrath; spite; a fit of temper; vengeance; rage"),
        _split(
            "someone who is shouting at somebody; a person in a temper; she glares at him; she is very upset with him and yells; a "
            "furious man"
        ),
    ),
    "disgust": Wording(
        _split(
            "appalled by a smell; repelled; about to throw up; disdainful; revolted by food; horrified by filth; feeling gross; unable to "
            "stomach it; disgusted"
        ),
        _split("revulsion; repulsion; repugnance; abhorrence; objection; nauseating feelings"),
        _split(
            "a face of disgust; a wrinkled nose and a raised upper lip; she pulls a face at the bad smell; her lip curls; a disgusted "
            "person"
        ),
    ),
    "fear": Wording(
        _split(
            "scared to death; tense; timid; horror-struck; concerned; daunted; intimidated; haunted; threatened and weak; terrified; "
            "spooked"
        ),
        _split("worry; unease; cold feet; timidity; a threat; apprehension"),
        _split("she is scared of what comes; she screams for help; she fears the worst; a terrified child; she cowers in the corner"),
    ),
    "happiness": Wording(
        _split("pleased; in a good mood; content; enthusiastic; sunny; grateful; friendly; loving; fulfilled; enjoying it; delighted"),
        _split("amusement; fun; contentment; satisfaction; hilarity; mirth"),
        _split("a happy face; he laughs out loud; the corners of the mouth go up; someone who is delighted; a beaming child"),
    ),
    "sadness": Wording(
        _split("gloomy; in low spirits; weepy; glum; pessimistic; remorseful; abandoned; empty; in pain; miserable; despondent"),
        _split("sorrow; melancholy; despair; regret; disappointment; a loss"),
        _split(
            "tears run down his face; he has lost someone he loved; she looks down with a heavy heart; a person who feels lonely and "
            "unhappy; he is down in the dumps"
        ),
    ),
    "surprise": Wording(
        _split(
            "stunned; shocked; speechless with surprise; baffled; perplexed; incredulous; surprised by the news; amazed by it; taken by "
            "surprise; astonished"
        ),
        _split("amazement; bewilderment; a great surprise; perplexity; a bolt from the blue; incredulity"),
        _split("a surprised face; his eyes pop; an astonished person; he never saw it coming; well, I never expected this"),
    ),
}
"""What only measures, by class: a fifth of all words and phrases, drawn at random, and the words ``furious``, ``terrified``, ``delighted``, ``disgusted``
and ``astonished``. They are learned from in no wording."""

LEARNED_STATES = _split(
    "{}; someone {}; a person who looks {}; a person who is {}; a photo of a person who is {}; she is {}; he looks {}; a face that looks {}; "
    "somebody feeling {}; they seem {}"
)
LEARNED_NAMES = _split("{}; a face full of {}; an expression of {}; a person showing {}; the emotion is {}; signs of {}; she feels {}")
HELD_STATES = _split("{}; the look of a man who feels {}; you can see that they are {}; being {}")
HELD_NAMES = _split("{}; a look of {}; this picture shows {}; a portrait of {}")


NAMES = {
    "neutral": Wording(("neutral", "calm"), ("neutrality", "no emotion"), ()),
    "anger": Wording(("angry", "mad"), ("anger",), ()),
    "disgust": Wording(("disgusted",), ("disgust",), ()),
    "fear": Wording(("afraid", "scared", "fearful"), ("fear",), ()),
    "happiness": Wording(("happy",), ("happiness", "joy"), ()),
    "sadness": Wording(("sad", "unhappy"), ("sadness",), ()),
    "surprise": Wording(("surprised", "amazed"), ("surprise",), ()),
}
"""The plain names of the classes; all but ``disgusted`` are learned from, and the wordings that measure are others."""

Texts = tuple[tuple[str, ...], ...]


def learned_texts() -> Texts:
    """The texts to learn from, by class in the order of the basic emotions: each word in each wording, and the phrases."""
    return tuple(
        (*_worded(found.states, LEARNED_STATES), *_worded(found.names, LEARNED_NAMES), *found.phrases) for found in _by_class(LEARNED)
    )


def held_texts() -> dict[str, Texts]:
    """The texts that only measure, by kind and class: plain names in other wordings, words that were never learned from, and phrases."""
    return {
        "names": tuple((*_worded(f.states, HELD_STATES[1:]), *_worded(f.names, HELD_NAMES[1:])) for f in _by_class(NAMES)),
        "words": tuple((*_worded(f.states, HELD_STATES), *_worded(f.names, HELD_NAMES)) for f in _by_class(HELD)),
        "phrases": tuple(found.phrases for found in _by_class(HELD)),
    }


def _by_class(wordings: dict[str, Wording]) -> list[Wording]:
    return [wordings[label] for label in BASIC7.labels]


def _worded(words: tuple[str, ...], frames: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(frame.format(word) for word in words for frame in frames)
